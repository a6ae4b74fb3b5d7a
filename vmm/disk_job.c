// SPDX-License-Identifier: ISC
/* Threads for what waits. See disk_job.h. */
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include "util/cleanup.h"
#include "vmm/disk_job.h"

#define STACK_BYTES (256u << 10) /* a qcow2 image is opened on it */

int disk_job_new(struct disk_job **job, struct disk *disk, struct err *err)
{
	if (disk->job)
		return err_set(err, -EBUSY, "disk %s is being changed", disk->name);
	*job = calloc(1, sizeof(**job));
	if (!*job)
		return err_set(err, -ENOMEM, "no memory");
	(*job)->disk = disk;
	(*job)->fd = -1;
	return 0;
}

static void set_working(struct disk *disk, bool working)
{
	LOCK_SCOPE(&disk->lock);
	disk->working = working;
	if (!working)
		pthread_cond_broadcast(&disk->settled);
}

static void *job_main(void *arg)
{
	struct disk_job *job = arg;
	int wake_fd = job->disk->wake_fd;

	pthread_setname_np(pthread_self(), "disk job");
	job->ret = job->run(job, &job->err);
	set_working(job->disk, false);
	if (wake_fd >= 0)
		eventfd_write(wake_fd, 1);
	return NULL;
}

int disk_job_start(struct disk_job *job, struct err *err)
{
	struct disk *disk = job->disk;
	pthread_attr_t attr;
	int ret;

	set_working(disk, true);
	disk->job = job;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	ret = -pthread_create(&job->thread, &attr, job_main, job);
	pthread_attr_destroy(&attr);
	if (ret == 0)
		return 0;
	set_working(disk, false);
	disk_job_end(job);
	return err_set(err, ret, "cannot start a thread");
}

struct disk_job *disk_job_take(struct disk *disk)
{
	struct disk_job *job = disk->job;

	if (job) {
		LOCK_SCOPE(&disk->lock);
		if (disk->working)
			return NULL;
	}
	if (job)
		pthread_join(job->thread, NULL);
	return job;
}

void disk_job_end(struct disk_job *job)
{
	job->disk->job = NULL;
	if (job->clean)
		job->clean(job);
	free(job);
}
