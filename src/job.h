/* SPDX-License-Identifier: ISC */
#ifndef FV_JOB_H
#define FV_JOB_H
/* Long commands: numbered, with progress, cancelled by rmdir. */
#include "model.h"

enum job_state { JOB_RUNNING, JOB_DONE, JOB_FAILED, JOB_CANCELLED, JOB_STATE_MAX };

const char *job_state_name(enum job_state state);

struct job *job_get(struct job *job);
void job_put(struct job *job);
/* By number; of @m only where @m is not NULL. A reference, or NULL. */
struct job *model_job_get(struct model *model, struct machine *m, uint64_t number);
/* As model_machine_next(). */
struct job *model_job_next(struct model *model, struct machine *m, uint64_t *cursor);
/* Asks it to end; once it has ended, forgets it. -EBUSY cannot happen: a running job goes
 * when it has noticed. */
int model_job_remove(struct model *model, struct job *job, struct err *err);

uint64_t job_number(const struct job *job);
enum job_state job_state(struct job *job);
/* Borrowed; NULL for those of the daemon, of pools and of volumes. */
struct machine *job_machine(const struct job *job);
uid_t job_uid(const struct job *job);
void job_command_show(struct job *job, struct strbuf *sb);
/* What it works on, as a path below the mountpoint ("pools/p/volumes/v"); "" for the root's. */
void job_subject_show(struct job *job, struct strbuf *sb);
/* "done=N total=M unit=U percent=P" or "" where it cannot tell. */
void job_progress_show(struct job *job, struct strbuf *sb);
void job_error_show(struct job *job, struct strbuf *sb);
struct timespec job_changed(struct job *job);

#endif
