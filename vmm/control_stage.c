// SPDX-License-Identifier: ISC
/*
 * What the daemon asks of disks' layers around a snapshot: VMM_DISK_STAGE before, VMM_DISK_FREEZE
 * after its instant, VMM_DISK_REBASE when lower layers were merged. Each is a job (disk_job.h).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "storage/image_stack.h"
#include "util/cleanup.h"
#include "vmm/control_int.h"
#include "vmm/disk_job.h"
#include "vmm/disk_snapshot.h"

/* A job for a disk that has something in it. */
static int make_job(struct control *c, const struct request *req, struct disk_job **job,
		    struct err *err)
{
	int ret = control_disk_job(c, req, job, err);

	if (ret < 0 || (*job)->disk->graph)
		return ret;
	err_set(err, -ENXIO, "disk %s is ejected", (*job)->disk->name);
	disk_job_end(*job);
	return -ENXIO;
}

/* --- STAGE ---------------------------------------------------------------------------------- */

static int run_stage(struct disk_job *job, struct err *err)
{
	return image_stack_stage(job->disk->graph->stack, take_fd(&job->fd), &job->block, err);
}

/* In place of what was staged before. */
static void finish_stage(struct disk_job *job, bool wanted)
{
	disk_unstage(job->disk);
	if (wanted)
		job->disk->graph->staged = take_ptr(job->block);
}

static void clean_stage(struct disk_job *job)
{
	if (job->fd >= 0)
		close(take_fd(&job->fd));
	image_stack_unstage(job->block);
}

int control_disk_stage(struct control *c, struct request *req, struct reply *reply, struct err *err)
{
	struct disk_job *job;
	int ret = make_job(c, req, &job, err);

	(void)reply;
	if (ret < 0)
		return ret;
	job->fd = take_fd(&req->fds[0]);
	job->run = run_stage;
	job->finish = finish_stage;
	job->clean = clean_stage;
	return control_disk_start(job, err);
}

void control_stage_drop(struct control *c)
{
	for (unsigned i = 0; i < nitems(c->config.disks); i++)
		if (c->config.disks[i])
			disk_unstage(c->config.disks[i]);
}

/* --- FREEZE --------------------------------------------------------------------------------- */

static int run_freeze(struct disk_job *job, struct err *err)
{
	return image_stack_freeze(job->disk->graph->stack, err);
}

int control_disk_freeze(struct control *c, struct request *req, struct reply *reply,
			struct err *err)
{
	struct disk_job *job;
	int ret = make_job(c, req, &job, err);

	(void)reply;
	if (ret < 0)
		return ret;
	job->run = run_freeze;
	return control_disk_start(job, err);
}

/* --- REBASE --------------------------------------------------------------------------------- */

static int run_rebase(struct disk_job *job, struct err *err)
{
	_cleanup_free_ struct image_chain *chain = calloc(1, sizeof(*chain));
	struct disk_graph *graph = job->disk->graph;
	struct block *bottom, *old;
	int ret;

	if (!chain)
		return err_set(err, -ENOMEM, "no memory");
	ret = disk_layers_take(chain, &bottom, &job->config, err);
	if (ret == 0)
		ret = image_stack_rebase(graph->stack, job->keep, chain, bottom, &old, err);
	if (ret < 0)
		return ret;
	disk_snapshots_pass(graph);
	block_close(old);
	return 0;
}

static void clean_rebase(struct disk_job *job)
{
	disk_layers_close(job->layers, job->config.n_layers);
}

int control_disk_rebase(struct control *c, struct request *req, struct reply *reply,
			struct err *err)
{
	struct vmm_disk_rebase m;
	struct disk_job *job;
	int ret;

	(void)reply;
	memcpy(&m, req->body, sizeof(m));
	if (m.n_layers == 0 || m.n_layers != c->n_layers)
		return err_set(err, -EINVAL, "%u layers were sent, not %u", c->n_layers,
			       m.n_layers);
	ret = make_job(c, req, &job, err);
	if (ret < 0)
		return ret;
	memcpy(job->layers, c->layers, sizeof(job->layers));
	job->config = (struct disk_config){
	    .readonly = true, .layers = job->layers, .n_layers = c->n_layers, .wake_fd = -1};
	c->n_layers = 0;
	job->keep = m.keep;
	job->run = run_rebase;
	job->clean = clean_rebase;
	return control_disk_start(job, err);
}
