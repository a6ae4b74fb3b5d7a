// SPDX-License-Identifier: ISC
/*
 * The daemon's requests about disks. LAYERs gather in the control struct until a
 * request takes them; where one is refused, and with the connection, they are dropped.
 *
 * Other contents and another size may take long: that is done by a job (disk_job.h), whose
 * end, like all that a disk has to tell, wakes the control thread: control_disks_look().
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOG_MODULE "control"
#include "util/cleanup.h"
#include "util/log.h"
#include "vmm/control_int.h"
#include "vmm/disk_job.h"
#include "vmm/disk_snapshot.h"
#include "vmm/virtio_blk.h"

#define QUEUES_MAX 16
#define TELL_MS	   1000 /* between two events of failures of one disk */

void control_disk_drop_layers(struct control *c)
{
	disk_layers_close(c->layers, c->n_layers);
	c->n_layers = 0;
}

static int check_layer(const struct control *c, const struct vmm_layer *m, size_t n_fds,
		       struct err *err)
{
	if (c->n_layers == VMM_LAYERS_MAX)
		return err_set(err, -ENOSPC, "more than %d layers", VMM_LAYERS_MAX);
	if (m->kind > VMM_LAYER_NBD)
		return err_set(err, -EINVAL, "layer of unknown kind %u", m->kind);
	if (n_fds != (m->has_data ? 2 : 1) || (m->has_data && m->kind != VMM_LAYER_QCOW2))
		return err_set(err, -EINVAL, "a layer with %zu files", n_fds);
	return 0;
}

int control_disk_layer(struct control *c, struct request *req, struct reply *reply, struct err *err)
{
	struct vmm_layer m;
	int ret;

	(void)reply;
	memcpy(&m, req->body, sizeof(m));
	ret = check_layer(c, &m, req->n_fds, err);
	if (ret < 0)
		return ret;
	c->layers[c->n_layers++] = (struct disk_layer){
	    .kind = (enum vmm_layer_kind)m.kind,
	    .fd = take_fd(&req->fds[0]),
	    .data_fd = m.has_data ? take_fd(&req->fds[1]) : -1,
	    .bytes = m.bytes,
	    .nbd_flags = m.nbd_flags,
	};
	return 0;
}

struct disk *control_disk_find(struct control *c, const char *name)
{
	for (unsigned i = 0; i < nitems(c->config.disks); i++) {
		struct disk *disk = c->config.disks[i];

		if (disk && strcmp(disk->name, name) == 0)
			return disk;
	}
	return NULL;
}

struct disk *control_disk_named(struct control *c, const struct request *req, struct err *err)
{
	char name[VMM_NAME_MAX];
	struct disk *disk;

	copy_text(name, (const char *)req->body, sizeof(name));
	disk = control_disk_find(c, name);
	if (!disk)
		err_set(err, -ENOENT, "there is no disk %s", name);
	return disk;
}

int control_disk_place(struct control *c, struct err *err)
{
	for (unsigned i = 0; i < nitems(c->config.disks); i++)
		if (!c->config.disks[i])
			return (int)i;
	return err_set(err, -ENOSPC, "more than %d disks", VMM_DISKS_MAX);
}

static int check_disk(struct control *c, const struct vmm_disk *m, struct err *err)
{
	if (m->queues > QUEUES_MAX)
		return err_set(err, -ERANGE, "more than %d queues", QUEUES_MAX);
	if (m->cache > VMM_CACHE_UNSAFE || m->on_error > VMM_ON_ERROR_IGNORE)
		return err_set(err, -EINVAL, "an unknown way to cache, or to act on errors");
	if (m->n_layers != c->n_layers)
		return err_set(err, -EINVAL, "%u layers were sent, not %u", c->n_layers,
			       m->n_layers);
	return 0;
}

/* Takes the layers for it, where there are any: their descriptors are the config's then. */
static int read_disk(struct control *c, const struct request *req, struct disk_config *config,
		     struct err *err)
{
	struct vmm_disk m;
	int ret;

	memcpy(&m, req->body, sizeof(m));
	ret = check_disk(c, &m, err);
	if (ret < 0)
		return ret;
	*config = (struct disk_config){
	    .readonly = m.readonly,
	    .queues = m.queues,
	    .cache = (enum vmm_cache)m.cache,
	    .on_error = (enum vmm_on_error)m.on_error,
	    .limits = m.limits,
	    .layers = c->layers,
	    .n_layers = c->n_layers,
	    .wake_fd = c->wake_fd,
	};
	copy_text(config->name, m.name, sizeof(config->name));
	memcpy(config->serial, m.serial, VMM_SERIAL_MAX);
	return 0;
}

int control_disk_make(struct control *c, const struct request *req, struct disk **disk,
		      struct err *err)
{
	struct disk_config config;
	int ret = read_disk(c, req, &config, err);

	if (ret < 0)
		return ret;
	if (config.n_layers == 0)
		return err_set(err, -EINVAL, "a disk without layers");
	if (!*config.name || control_disk_find(c, config.name))
		return err_set(err, -EEXIST, "there is a disk %s already", config.name);
	c->n_layers = 0;
	return disk_open(disk, &config, err);
}

int control_disk_add(struct control *c, struct request *req, struct reply *reply, struct err *err)
{
	int place = control_disk_place(c, err);

	if (c->state != VMM_STATE_NEW)
		return control_hotplug_attach(c, req, reply, err);
	if (place < 0)
		return place;
	return control_disk_make(c, req, &c->config.disks[place], err);
}

/* --- what takes its time ---------------------------------------------------------------------- */

int control_disk_job(struct control *c, const struct request *req, struct disk_job **job,
		     struct err *err)
{
	struct disk *disk = control_disk_named(c, req, err);
	int ret = disk ? disk_job_new(job, disk, err) : -ENOENT;

	if (ret == 0) {
		(*job)->connection = c->connection;
		(*job)->seq = req->hdr.seq;
	}
	return ret;
}

int control_disk_start(struct disk_job *job, struct err *err)
{
	int ret = disk_job_start(job, err);

	return ret < 0 ? ret : CONTROL_LATER;
}

/* What a snapshot is about to go over to is of this size, and over these contents. */
static int check_not_staged(struct disk_job *job, struct err *err)
{
	if (!job->disk->graph || !job->disk->graph->staged)
		return 0;
	return err_set(err, -EBUSY, "disk %s is part of a snapshot that is being taken",
		       job->disk->name);
}

/* The disk's new graph is in the job's place, then the old one: that is closed. */
static void exchange(struct disk_job *job)
{
	struct disk *disk = job->disk;
	struct disk_graph *old = disk->graph;

	disk->readonly = job->config.readonly;
	__atomic_store_n(&disk->on_error, job->config.on_error, __ATOMIC_RELAXED);
	disk_hurry(disk, true);
	virtio_blk_use(disk, job->graph);
	{
		LOCK_SCOPE(&disk->lock);
		disk->graph = job->graph;
		disk->limits = job->config.limits;
	}
	job->graph = NULL;
	disk_graph_close(old);
}

static int run_change(struct disk_job *job, struct err *err)
{
	int ret = 0;

	if (job->config.n_layers > 0)
		ret = disk_graph_open(&job->graph, &job->config, err);
	if (ret == 0)
		exchange(job);
	return ret;
}

static void clean_change(struct disk_job *job)
{
	disk_layers_close(job->layers, job->config.n_layers);
}

static void tell_guest(struct disk_job *job, bool wanted)
{
	(void)wanted;
	virtio_blk_changed(job->disk);
}

int control_disk_change(struct control *c, struct request *req, struct reply *reply,
			struct err *err)
{
	struct disk_config config;
	struct disk_job *job;
	int ret = read_disk(c, req, &config, err);

	(void)reply;
	if (ret == 0)
		ret = control_disk_job(c, req, &job, err);
	if (ret < 0)
		return ret;
	ret = check_not_staged(job, err);
	if (ret < 0) {
		disk_job_end(job);
		return ret;
	}
	memcpy(job->layers, c->layers, sizeof(job->layers));
	c->n_layers = 0;
	job->config = config;
	job->config.layers = job->layers;
	job->run = run_change;
	job->finish = tell_guest;
	job->clean = clean_change;
	return control_disk_start(job, err);
}

/* Only of a file or device as it is there can be a size that nobody has set. */
static int run_resize(struct disk_job *job, struct err *err)
{
	struct disk_graph *graph = job->disk->graph;
	struct block *top = graph->top;
	int ret = 0;

	if (job->bytes != 0 || graph->kind == VMM_LAYER_RAW)
		ret = block_resize(top, job->bytes, err);
	if (ret < 0)
		return ret;
	block_info_get(top, &graph->info);
	job->bytes = graph->info.bytes;
	virtio_blk_use(job->disk, graph);
	return 0;
}

int control_disk_resize(struct control *c, struct request *req, struct reply *reply,
			struct err *err)
{
	struct vmm_disk_resize m;
	struct disk_job *job;
	int ret;

	(void)reply;
	memcpy(&m, req->body, sizeof(m));
	if (m.bytes % 512)
		return err_set(err, -EINVAL, "%llu bytes are not whole sectors of 512",
			       (unsigned long long)m.bytes);
	ret = control_disk_job(c, req, &job, err);
	if (ret < 0)
		return ret;
	ret = job->disk->graph ? check_not_staged(job, err)
			       : err_set(err, -ENXIO, "the disk is ejected");
	if (ret < 0) {
		disk_job_end(job);
		return ret;
	}
	job->bytes = m.bytes;
	job->tells_bytes = true;
	job->run = run_resize;
	job->finish = tell_guest;
	return control_disk_start(job, err);
}

/* Its thread is at its end: what is shown follows, and the daemon has its answer. */
static void finish_job(struct control *c, struct disk_job *job)
{
	bool wanted = job->connection == c->connection && c->conn_fd >= 0;

	if (job->ret == 0 && job->finish)
		job->finish(job, wanted);
	if (wanted)
		control_proto_answer(c, job->seq, job->ret, &job->bytes,
				     job->tells_bytes ? sizeof(job->bytes) : 0, &job->err);
	disk_job_end(job);
}

/* --- what does not ---------------------------------------------------------------------------- */

int control_disk_limits(struct control *c, struct request *req, struct reply *reply,
			struct err *err)
{
	struct disk *disk = control_disk_named(c, req, err);
	struct vmm_disk_limits m;

	(void)reply;
	if (!disk)
		return -ENOENT;
	if (disk->job)
		return err_set(err, -EBUSY, "disk %s is being changed", disk->name);
	memcpy(&m, req->body, sizeof(m));
	return disk_set_limits(disk, &m.limits, err);
}

int control_disk_snapshot(struct control *c, struct request *req, struct reply *reply,
			  struct err *err)
{
	struct disk *disk = control_disk_named(c, req, err);
	struct vmm_snapshot_info info;
	int ret;

	if (!disk)
		return -ENOENT;
	if (disk->job)
		return err_set(err, -EBUSY, "disk %s is being changed", disk->name);
	if (!disk->graph)
		return err_set(err, -ENXIO, "disk %s is ejected", disk->name);
	ret = disk_snapshot_new(disk->graph, take_fd(&req->fds[0]), take_fd(&req->fds[1]),
				c->wake_fd, &info, &reply->own_fd, err);
	if (ret < 0)
		return ret;
	reply_put(reply, &info, sizeof(info));
	reply->fds[reply->n_fds++] = reply->own_fd;
	return 0;
}

/* --- news ------------------------------------------------------------------------------------- */

/* A disk's requests wait for something to be done about its storage. */
static void pause_for(struct control *c, const struct disk *disk, const struct disk_news *news)
{
	char text[VMM_TEXT_MAX];

	if (c->state != VMM_STATE_RUNNING && c->state != VMM_STATE_PAUSED)
		return;
	snprintf(text, sizeof(text), "disk %s: %s", disk->name, news->text);
	log_warn("paused: %s", text);
	if (c->state == VMM_STATE_RUNNING)
		control_pause(c);
	control_set_state(c, VMM_STATE_PAUSED, VMM_REASON_IO, text);
}

void control_disk_tell(struct control *c, const char *name, enum vmm_disk_what what, int error,
		       const char *text)
{
	struct vmm_disk_event *event;

	if (c->conn_fd < 0)
		return;
	if (c->n_disk_events == nitems(c->disk_events)) {
		log_warn("too many events of disks: one of %s is dropped", name);
		return;
	}
	event = &c->disk_events[c->n_disk_events++];
	*event = (struct vmm_disk_event){.what = what, .error = error};
	snprintf(event->name, sizeof(event->name), "%s", name);
	snprintf(event->text, sizeof(event->text), "%s", text);
}

static void look_at(struct control *c, struct disk *disk)
{
	struct disk_job *job = disk_job_take(disk);
	struct disk_news news;
	int64_t now;

	if (job)
		finish_job(c, job);
	if (!disk->job && disk->graph)
		disk_snapshots_reap(disk->graph);
	if (!disk_news_take(disk, &news))
		return;
	if (news.attached)
		control_disk_tell(c, disk->name, VMM_DISK_ATTACHED, 0, "");
	now = control_now_ms();
	if (news.failed && (!disk->told_ms || now - disk->told_ms >= TELL_MS)) {
		disk->told_ms = now;
		control_disk_tell(c, disk->name, VMM_DISK_FAILED, news.error, news.text);
	}
	if (news.wants_pause)
		pause_for(c, disk, &news);
}

void control_disks_look(struct control *c)
{
	for (unsigned i = 0; i < nitems(c->config.disks); i++)
		if (c->config.disks[i])
			look_at(c, c->config.disks[i]);
}

void control_disks_close(struct control *c)
{
	control_disk_drop_layers(c);
	for (unsigned i = 0; i < nitems(c->config.disks); i++) {
		struct disk *disk = take_ptr(c->config.disks[i]);

		if (!disk)
			continue;
		disk_settle(disk);
		if (disk_job_take(disk))
			disk_job_end(disk->job);
		disk_close(disk);
	}
}
