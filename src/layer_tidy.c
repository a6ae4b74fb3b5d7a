// SPDX-License-Identifier: ISC
/*
 * Merging layers that only one chain passes through: a job of the machine, `merge`.
 *
 * Two layers over each other become one where every chain that has the lower one has the upper one
 * over it (no snapshot or clone begins at the lower: as many refer to the one as to the other).
 * What the upper holds is written into the lower (image_commit_fds()), through which a reader of
 * both reads the same at every moment, whenever he opened them. Then the set is noted with one of
 * the two. Who is killed in between leaves a chain that reads alike.
 *
 * The headers of what is above name the upper one, so the lower gets that name by a rename(2) of a
 * second link before the set is noted: both names are one file then, and whoever
 * opens such a chain opens it once (layer_open.c). Snapshots and clones whose chains have both
 * keep both names so for as long as they are there. Where nothing is above, the upper just goes.
 *
 * Of a disk that a VMM has, the top layer stays, and what is below is exchanged in the VMM
 * (VMM_DISK_REBASE) before the names are; nothing is merged into the user's source then, as
 * nobody could tell who else reads that. A disk that nobody has is merged down to its source when
 * no snapshot, clone or other machine needs that as it is: then the file that the user named is
 * whole again, and there are no layers. (Not into network disks: one layer stays over those.)
 *
 * Locks of the files keep others from a disk that is merged while it stands still; who wants it,
 * though, is not made to wait: layers_tidy_pause() ends the job, which costs nothing but what
 * was copied so far. It is started again when its machine's VMM has ended, when a snapshot is
 * deleted, and when the daemon starts.
 */
#define LOG_MODULE "layer"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "command.h"
#include "layer_int.h"
#include "storage/block_nbd.h"
#include "util/cleanup.h"
#include "util/file.h"
#include "util/log.h"
#include "vmm.h"

#define CLAIM_MS 60000 /* for another change of the machine's disks to end */

struct tidy {
	struct tidy *next;
	struct machine *m;
	struct cancel *cancel;
	bool again; /* asked for once more meanwhile */
};

/* How a disk may be merged now. */
enum mode { STILL, LIVE, NOT_NOW };

/* One merge: @upper of the chain into what is below it. */
struct merge {
	struct machine *m;
	struct model *model;
	struct disk_layers *disk; /* as it is before */
	enum mode mode;
	unsigned upper;
	bool into_source;
	struct job *job;
	struct cancel *cancel;
};

/* --- what there is to do ---------------------------------------------------------------------- */

static enum mode mode_of(struct machine *m, const struct disk_layers *d)
{
	const struct vmm_has_disk *has;

	LOCK_SCOPE(&m->lock);
	if (m->starting || !m->alive)
		return NOT_NOW;
	if (!m->vmm)
		return STILL;
	if (!m->vmm->ready || m->vmm->ended || m->vmm->gone)
		return NOT_NOW;
	has = vmm_disk_find(m->vmm, d->name);
	if (!has || has->state == VMM_DISK_EMPTY || strcmp(has->source, d->source) != 0)
		return STILL;
	return has->staged || has->state != VMM_DISK_HAS ? NOT_NOW : LIVE;
}

static bool is_alone(struct model *model, const struct layer_chain *chain, unsigned i)
{
	return layer_refs(model, LAYER_DISK, chain->ids[i]) == 1;
}

/* Whether nobody's chain begins at the lower one of the two at @i. */
static bool is_pair(struct model *model, const struct layer_chain *chain, unsigned i)
{
	unsigned upper = layer_refs(model, LAYER_DISK, chain->ids[i]);
	unsigned lower = layer_refs(model, LAYER_DISK, chain->ids[i + 1]);
	struct file_id a, b;

	if (upper && upper == lower)
		return true;
	a = layer_file_id(model, chain->ids[i]);
	b = layer_file_id(model, chain->ids[i + 1]);
	return a.ino && a.dev == b.dev && a.ino == b.ino; /* another chain's merge */
}

/* The lowest first, so that nothing is moved twice. False: nothing can be merged. */
static bool plan(struct merge *g)
{
	const struct layer_chain *chain = &g->disk->chain;
	unsigned from = g->mode == LIVE ? 1 : 0;

	g->into_source = false;
	if (g->mode == STILL && chain->n && is_alone(g->model, chain, chain->n - 1) &&
	    layers_source_refs(g->model, g->disk->source) == 1 &&
	    layers_refuse_but(g->model, g->disk->source, g->disk->files, g->disk->n_files ? 1 : 0,
			      g->m, g->disk->name, NULL) == 0) {
		g->into_source = true;
		g->upper = chain->n - 1;
		return true;
	}
	for (unsigned i = chain->n; i >= from + 2; i--)
		if (is_pair(g->model, chain, i - 2)) {
			g->upper = i - 2;
			return true;
		}
	return false;
}

/* --- taking note ------------------------------------------------------------------------------ */

/* One name for both: the upper's, of the lower file. */
static int move_name(struct merge *g)
{
	const struct layer_chain *chain = &g->disk->chain;
	char upper[LAYER_NAME_MAX], lower[LAYER_NAME_MAX], link[LAYER_NAME_MAX + 8];
	int dir = g->model->layers->dir;

	layer_file_name(upper, LAYER_DISK, chain->ids[g->upper]);
	layer_file_name(lower, LAYER_DISK, chain->ids[g->upper + 1]);
	snprintf(link, sizeof(link), ".%s.new", upper);
	if (unlinkat(dir, link, 0) < 0 && errno != ENOENT)
		return -errno;
	if (linkat(dir, lower, dir, link, 0) < 0 || renameat(dir, link, dir, upper) < 0)
		return -errno;
	/* rename(2) leaves two names of one file as they are: a daemon before us did it already */
	if (unlinkat(dir, link, 0) < 0 && errno != ENOENT)
		return -errno;
	return file_sync_dir(dir);
}

struct cut {
	const struct merge *g;
	const char *id; /* goes */
};

static int cut_layer(struct layer_set *set, void *arg, struct err *err)
{
	const struct cut *cut = arg;
	struct disk_layers *now = layer_set_find(set, cut->g->disk->name, cut->g->disk->source);
	struct layer_chain *chain = now ? &now->chain : NULL;
	unsigned i = 0;

	while (chain && i < chain->n && strcmp(chain->ids[i], cut->id) != 0)
		i++;
	if (!chain || i == chain->n)
		return err_set(err, -EBUSY, "its layers have changed meanwhile");
	chain->n--;
	memmove(chain->ids[i], chain->ids[i + 1], (chain->n - i) * sizeof(chain->ids[0]));
	return 0;
}

static int note(struct merge *g, struct err *err)
{
	const struct layer_chain *chain = &g->disk->chain;
	struct cut cut = {g, chain->ids[g->upper]};

	if (!g->into_source && (g->upper > 0 || !is_alone(g->model, chain, 0))) {
		if (move_name(g) == 0)
			cut.id = chain->ids[g->upper + 1];
		else
			log_warn("layers/%s keeps another name than what is over it says",
				 chain->ids[g->upper + 1]);
	}
	return machine_layers_change(g->m, cut_layer, &cut, err);
}

/* --- a VMM that has it ------------------------------------------------------------------------ */

/* What is below the top, without the upper one. */
static int open_rest(struct merge *g, const struct disk_asks *asks, struct disk_opened **opened,
		     struct err *err)
{
	struct disk_layers rest = *g->disk;
	const struct layer_chain *chain = &g->disk->chain;

	rest.chain.n = 0;
	for (unsigned i = 1; i < chain->n; i++)
		if (i != g->upper)
			memcpy(rest.chain.ids[rest.chain.n++], chain->ids[i], ID_TEXT);
	return disk_open_layers(g->model, &rest, asks, true, opened, err);
}

static int claim(struct merge *g, struct err *err)
{
	struct timespec deadline = deadline_in_ms(CLAIM_MS);
	struct machine *m = g->m;
	int r = 0;

	machine_cancel_wakes(m, g->cancel);
	pthread_mutex_lock(&m->lock);
	while (r == 0 && m->disks_busy && !cancel_requested(g->cancel))
		r = machine_wait(m, &deadline);
	pthread_mutex_unlock(&m->lock);
	machine_cancel_wakes(NULL, g->cancel);
	if (cancel_requested(g->cancel))
		return err_set(err, -ECANCELED, "ended");
	r = disks_claim(m, err);
	if (r == 0) {
		LOCK_SCOPE(&m->lock);
		m->disks_merging = true;
	}
	return r;
}

static int rebase(struct merge *g, const struct disk_asks *asks, struct err *err)
{
	_cleanup_disk_opened_ struct disk_opened *rest = NULL;
	_cleanup_vmm_ struct vmm *vmm = machine_vmm(g->m);
	struct disk_layers now = *g->disk;
	_cleanup_(layer_set_free) struct layer_set set = {0};
	const struct disk_layers *noted;
	int r;

	if (!vmm || mode_of(g->m, &now) != LIVE)
		return err_set(err, -EBUSY, "the machine has other disks now");
	/* a snapshot meanwhile has put a new one on top: what the VMM keeps is that */
	if (machine_layers(g->m, &set) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	noted = layer_set_find(&set, now.name, now.source);
	if (!noted || noted->chain.n != now.chain.n ||
	    strcmp(noted->chain.ids[0], now.chain.ids[0]) != 0)
		return err_set(err, -EBUSY, "its layers have changed meanwhile");
	r = open_rest(g, asks, &rest, err);
	return r == 0 ? vmm_disk_rebase(vmm, now.name, 1, rest, err) : r;
}

/* --- one merge -------------------------------------------------------------------------------- */

struct finish {
	struct merge *g;
	const struct disk_asks *asks;
};

/* Nobody's chain begins at what is merged: what was in it may become free. */
static int still_alone(const struct merge *g, struct err *err)
{
	const struct layer_chain *chain = &g->disk->chain;

	if (g->into_source ? is_alone(g->model, chain, g->upper) &&
				 layers_source_refs(g->model, g->disk->source) == 1
			   : is_pair(g->model, chain, g->upper))
		return 0;
	return err_set(err, -EBUSY, "its layers have been put to use meanwhile");
}

static int finish(void *arg, struct err *err)
{
	struct finish *f = arg;
	struct merge *g = f->g;
	int r = g->mode == LIVE ? claim(g, err) : 0;

	if (r < 0)
		return r;
	r = still_alone(g, err);
	if (r == 0 && g->mode == LIVE)
		r = rebase(g, f->asks, err);
	if (r == 0)
		r = note(g, err);
	if (g->mode == LIVE)
		disks_unclaim(g->m);
	return r;
}

static void show_progress(void *arg, uint64_t done, uint64_t total)
{
	job_progress(((struct merge *)arg)->job, done, total, "bytes");
}

/* A layer that is to be written, in place of the descriptor that is there. */
static int open_for_writing(struct merge *g, struct image_layer *l, const char *id, struct err *err)
{
	int fd = layer_open(g->model, LAYER_DISK, id, true, err);

	if (fd < 0)
		return fd;
	close(l->fd);
	l->fd = fd;
	return g->mode == LIVE ? 0 : image_lock(fd, true, false, err);
}

/* The upper, the lower for writing, and what is below. */
static int open_two(struct merge *g, const struct disk_asks *asks, struct disk_opened **opened,
		    struct err *err)
{
	struct disk_layers sub = *g->disk;
	struct layer_chain *chain = &sub.chain;
	int r;

	chain->n -= g->upper;
	memmove(chain->ids[0], chain->ids[g->upper], chain->n * sizeof(chain->ids[0]));
	r = disk_open_layers(g->model, &sub, asks, false, opened, err);
	if (r < 0)
		return r;
	if ((*opened)->n_layers < chain->n)
		return -EALREADY; /* one file under both names: only the note is missing */
	return open_for_writing(g, &(*opened)->chain.images.layers[1], chain->ids[1], err);
}

/* The last layer, and its source for writing. */
static int open_with_source(struct merge *g, struct disk_asks *asks, struct disk_opened **opened,
			    struct err *err)
{
	struct disk_layers sub = *g->disk;
	int r;

	sub.chain.n = 1;
	memcpy(sub.chain.ids[0], g->disk->chain.ids[g->upper], ID_TEXT);
	r = disk_open_to_merge(g->m, &sub, asks, opened, err);
	if (r < 0)
		return r;
	if ((*opened)->chain.link.fd >= 0)
		return err_set(err, -EOPNOTSUPP, "nothing is merged into a network disk");
	/* what is below that is read as before */
	return layers_refuse_but(g->model, sub.source, &(*opened)->ids[1],
				 (*opened)->n_ids > 1 ? 1 : 0, g->m, sub.name, err);
}

static int open_bottom_block(struct disk_opened *o, struct block **bottom, struct err *err)
{
	struct block_nbd_params nbd = {
	    .bytes = o->chain.link.bytes, .flags = o->chain.link.flags, .readonly = true};

	*bottom = NULL;
	return o->chain.link.fd < 0 ? 0
				    : block_nbd_open(bottom, take_fd(&o->chain.link.fd), &nbd, err);
}

static int merge(struct merge *g, struct disk_asks *asks, struct err *err)
{
	_cleanup_disk_opened_ struct disk_opened *o = NULL;
	struct image_job job = {.cancel = g->cancel, .progress = show_progress, .arg = g};
	struct finish f = {g, asks};
	struct block *bottom;
	int r = g->into_source ? open_with_source(g, asks, &o, err) : open_two(g, asks, &o, err);

	if (r == -EALREADY)
		return finish(&f, err);
	if (r == 0)
		r = open_bottom_block(o, &bottom, err);
	return r == 0 ? image_commit_fds(&o->chain.images, bottom, finish, &f, &job, err) : r;
}

/* Another machine may have the same layers. */
static int merge_claimed(struct merge *g, struct disk_asks *asks, struct err *err)
{
	const struct layer_chain *chain = &g->disk->chain;
	const char *lower = g->into_source ? NULL : chain->ids[g->upper + 1];
	int r;

	if (!layers_claim(g->model, chain->ids[g->upper], lower))
		return err_set(err, -EBUSY, "another machine merges its layers");
	r = merge(g, asks, err);
	layers_unclaim(g->model, chain->ids[g->upper], lower);
	return r;
}

/* --- the job ---------------------------------------------------------------------------------- */

/* The disk, as it is now, step by step. */
static int merge_disk(struct merge *g, const char *name, const char *source, struct err *err)
{
	_cleanup_definition_ struct definition *def = machine_definition(g->m);
	const struct disk *d = definition_disk(def, name);
	_cleanup_rights_ struct rights owner = {0};
	struct disk_asks asks = {.cancel = g->cancel};
	int r = machine_owner_rights(g->m, &owner);

	asks.owner = owner;
	if (d && strcmp(d->values.source, source) == 0)
		asks.backing = d->values.backing;
	while (r == 0) {
		_cleanup_(layer_set_free) struct layer_set set = {0};

		if (machine_layers(g->m, &set) < 0)
			return err_set(err, -ENOMEM, "out of memory");
		g->disk = layer_set_find(&set, name, source);
		g->mode = g->disk ? mode_of(g->m, g->disk) : NOT_NOW;
		if (g->mode == NOT_NOW || !plan(g))
			break;
		r = merge_claimed(g, &asks, err);
		if (r == 0)
			log_info("layers of disk %s were merged", name);
	}
	return r;
}

/* Until no command of the machine is under way: most of them want its disks. */
static int await_free(struct machine *m, struct cancel *cancel, struct err *err)
{
	machine_cancel_wakes(m, cancel);
	pthread_mutex_lock(&m->lock);
	while (m->alive && (m->op || (m->vmm && m->vmm->gone)) && !cancel_requested(cancel))
		machine_wait(m, NULL);
	pthread_mutex_unlock(&m->lock);
	machine_cancel_wakes(NULL, cancel);
	return cancel_requested(cancel) ? err_set(err, -ECANCELED, "ended") : 0;
}

static int merge_all(struct machine *m, struct job *job, struct cancel *cancel, struct err *err)
{
	struct merge g = {.m = m, .model = m->model, .job = job, .cancel = cancel};
	_cleanup_(layer_set_free) struct layer_set set = {0};
	int first = await_free(m, cancel, err);

	if (first == 0 && machine_layers(m, &set) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; first != -ECANCELED && i < set.n; i++) {
		struct err own = ERR_INIT;
		int r = merge_disk(&g, set.disks[i].name, set.disks[i].source, &own);

		if (r == 0 || r == -EOPNOTSUPP || first < 0)
			continue; /* the first that fails is told of */
		first = r;
		*err = own;
		err_prefix(err, "disk %s", set.disks[i].name);
	}
	return first;
}

static int enlist(struct layers *layers, struct tidy *t)
{
	LOCK_SCOPE(&layers->lock);
	for (const struct tidy_pause *p = layers->pauses; p; p = p->next)
		if (p->m == t->m)
			return -ECANCELED;
	for (struct tidy *other = layers->tidying; other; other = other->next)
		if (other->m == t->m) {
			other->again = true;
			return -EALREADY;
		}
	t->next = layers->tidying;
	layers->tidying = t;
	return 0;
}

/* False: it is to be done once more. */
static bool delist(struct layers *layers, struct tidy *t)
{
	struct tidy **link = &layers->tidying;
	bool again;

	LOCK_SCOPE(&layers->lock);
	again = t->again && !cancel_requested(t->cancel);
	t->again = false;
	if (again)
		return false;
	while (*link != t)
		link = &(*link)->next;
	*link = t->next;
	pthread_cond_broadcast(&layers->cond);
	return true;
}

static int run_merge(struct model *model, struct machine *m, struct command_call *call,
		     const struct caller *caller, struct err *err)
{
	struct tidy t = {.m = m, .cancel = caller->cancel};
	int r = enlist(model->layers, &t);

	if (r < 0)
		return r == -EALREADY ? 0 : err_set(err, r, "somebody wants the disk");
	do {
		*err = (struct err)ERR_INIT;
		r = merge_all(m, call->job, caller->cancel, err);
	} while (!delist(model->layers, &t));
	if (r < 0 && r != -ECANCELED)
		log_warn("machine %s: layers stay as they are: %s", m->name, err->text);
	return r;
}

bool layers_tidy_pause(struct machine *m, struct tidy_pause *pause)
{
	struct layers *layers = m->model->layers;
	bool ended = false;
	struct tidy *t;

	LOCK_SCOPE(&layers->lock);
	*pause = (struct tidy_pause){layers->pauses, m};
	layers->pauses = pause;
	do {
		for (t = layers->tidying; t && t->m != m; t = t->next)
			;
		if (t) {
			ended = true;
			cancel_request(t->cancel);
			pthread_cond_wait(&layers->cond, &layers->lock);
		}
	} while (t);
	return ended;
}

void layers_tidy_go(struct tidy_pause *pause)
{
	struct layers *layers = pause->m->model->layers;
	struct tidy_pause **link = &layers->pauses;

	LOCK_SCOPE(&layers->lock);
	while (*link != pause)
		link = &(*link)->next;
	*link = pause->next;
}

/* Whether a job would find something to do, as far as can be told without opening files. */
static bool has_work(struct machine *m)
{
	struct merge g = {.m = m, .model = m->model};
	_cleanup_(layer_set_free) struct layer_set set = {0};
	bool has = false;

	if (machine_layers(m, &set) < 0)
		return false;
	for (size_t i = 0; !has && i < set.n; i++) {
		g.disk = &set.disks[i];
		g.mode = mode_of(m, g.disk);
		if (g.mode == NOT_NOW)
			g.mode = STILL; /* soon */
		has = plan(&g);
	}
	return has;
}

void layers_tidy(struct machine *m)
{
	static const struct command command = {.name = "merge",
					       .usage = "merge",
					       .help = "merges layers that are not needed",
					       .states = UINT32_MAX,
					       .run = run_merge};
	const struct caller daemon = {.uid = geteuid(), .gid = getegid()};
	struct command_call *call;
	struct err err = ERR_INIT;

	if (cancel_requested(&m->model->stopping) || !has_work(m))
		return;
	call = calloc(1, sizeof(*call));
	if (!call)
		return;
	call->command = &command;
	strcpy(call->line, "merge");
	strcpy(call->words, "merge");
	call->subject = (struct subject){.kind = SUBJECT_MACHINE, .model = m->model, .m = m};
	if (job_start(call, &daemon, NULL, &err) < 0)
		log_warn("machine %s: layers stay as they are: %s", m->name, err.text);
	free(call);
}

void layers_tidy_all(struct model *model)
{
	uint64_t cursor = 0;
	struct machine *m;

	while ((m = model_machine_next(model, &cursor))) {
		layers_tidy(m);
		machine_put(m);
	}
}
