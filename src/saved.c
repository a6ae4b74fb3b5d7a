// SPDX-License-Identifier: ISC
/*
 * The files of a saved machine (save.h): found, opened, made and removed.
 *
 * `saved` alone says whether the machine is saved. Its memory is named by saved-memory, which
 * gets its place before and is removed after it. Where the machine is to go on with other
 * layers than it had (a snapshot is restored), these are in saved-layers before `saved` is
 * there; whoever finds the two gives them to the machine, then removes saved-layers. As long as
 * a machine is saved nothing else changes its layers, so that doing so twice does no harm.
 * Where it is to have another definition (an archive's), that is in saved-config in the same way:
 * a daemon that finds it beside `saved` makes it `config` before it reads that.
 */
#define LOG_MODULE "save"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "nic_int.h"
#include "save.h"
#include "util/cleanup.h"
#include "util/file.h"
#include "util/log.h"

#define STATE_FILE  "saved"
#define MEMORY_FILE "saved-memory"
#define LAYERS_FILE "saved-layers"
#define AGAIN_FILE  "saved-again"
#define STATE_NEW   SAVED_STATE_NEW
#define MEMORY_NEW  ".saved-memory.new"
#define LAYERS_NEW  ".saved-layers.new"
#define CONFIG_FILE "saved-config"
#define CONFIG_NEW  ".saved-config.new"
#define AGAIN_NEW   ".saved-again.new"
#define TEXT_MAX    (4u << 20) /* of the two that are text */
#define COPY_BYTES  (1u << 20)

#define LOW_RAM_END 0xc0000000ull
#define HIGH_RAM    0x100000000ull

/* --- removing --------------------------------------------------------------------------------
 */

static void remove_file(int dir, const char *name)
{
	if (unlinkat(dir, name, 0) < 0 && errno != ENOENT)
		log_warn("cannot remove %s: %m", name);
}

static void remove_new(int dir)
{
	remove_file(dir, STATE_NEW);
	remove_file(dir, MEMORY_NEW);
	remove_file(dir, LAYERS_NEW);
	remove_file(dir, AGAIN_NEW);
	remove_file(dir, CONFIG_NEW);
}

/* @used: it is marked as used, on stable storage; who found it again would remove it. */
static int drop(int dir, bool used)
{
	int r = unlinkat(dir, STATE_FILE, 0) < 0 ? -errno : 0;

	if (r < 0 && r != -ENOENT)
		return r;
	r = r == 0 && !used ? file_sync_dir(dir) : 0;
	remove_file(dir, AGAIN_FILE);
	remove_file(dir, CONFIG_FILE);
	remove_file(dir, LAYERS_FILE);
	remove_file(dir, MEMORY_FILE);
	return r;
}

void saved_forget(int dir)
{
	if (drop(dir, false) < 0)
		log_warn("a saved state cannot be removed");
	remove_new(dir);
}

/* Has a guest gone on from it? A file that cannot be read is for its owner to discard. */
static bool used_up(int dir)
{
	_cleanup_close_ int fd = openat(dir, STATE_FILE, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	uint32_t used = 0;

	return fd >= 0 && file_pread_all(fd, &used, sizeof(used), VMM_STATE_USED_AT) == 0 && used;
}

/* The definition that came with the state, where a daemon was killed before it had its place. */
static void settle_config(int dir)
{
	if (renameat(dir, CONFIG_FILE, dir, "config") == 0 && file_sync_dir(dir) == 0)
		return;
	if (errno != ENOENT)
		log_warn("%s cannot become config: %m", CONFIG_FILE);
}

bool saved_look(int dir)
{
	bool saved = faccessat(dir, STATE_FILE, F_OK, AT_SYMLINK_NOFOLLOW) == 0;

	remove_new(dir);
	if (saved && !used_up(dir)) {
		settle_config(dir);
		return true;
	}
	if (saved)
		log_info("a saved state that was used is removed");
	if (drop(dir, saved) < 0)
		log_warn("a saved state that was used cannot be removed");
	return false;
}

/* --- memory, and its references --------------------------------------------------------------
 */

struct memory_map *saved_memory_swap(struct machine *m, struct memory_map *memory)
{
	struct memory_map *old = m->saved_memory;

	m->saved_memory = memory;
	return old;
}

/* Not under a lock. */
static void set_memory(struct machine *m, struct memory_map *memory)
{
	struct memory_map *old;

	pthread_mutex_lock(&m->lock);
	old = saved_memory_swap(m, memory);
	pthread_mutex_unlock(&m->lock);
	if (old)
		memory_map_put(m->model, old);
	free(old);
}

bool saved_still(struct machine *m)
{
	_cleanup_close_ int dir = store_open_dir(m);

	if (dir < 0 || saved_look(dir))
		return true;
	set_memory(m, NULL);
	return false;
}

static int drop_of(struct machine *m, bool used, struct err *err)
{
	_cleanup_close_ int dir = store_open_dir(m);
	int r = dir < 0 ? dir : drop(dir, used);

	if (r < 0)
		return err_set(err, r, "cannot remove the saved state: %s", strerror(-r));
	set_memory(m, NULL);
	return 0;
}

int saved_drop(struct machine *m, struct err *err)
{
	return drop_of(m, false, err);
}

int saved_drop_used(struct machine *m, struct err *err)
{
	return drop_of(m, true, err);
}

/* --- memory as it was before there were layers -----------------------------------------------
 */

static bool is_map(int dir)
{
	_cleanup_close_ int fd = openat(dir, MEMORY_FILE, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	char head[7];

	return fd < 0 || (file_pread_all(fd, head, sizeof(head), 0) == 0 &&
			  memcmp(head, "memory ", sizeof(head)) == 0);
}

static struct memory_map map_of_file(uint64_t bytes, const char *id)
{
	struct memory_map map = {.kind = VMM_MEMORY_RAW, .bytes = bytes, .n_files = 1};

	strcpy(map.files[0], id);
	map.extents[map.n_extents++] =
	    (struct vmm_extent){.bytes = bytes < LOW_RAM_END ? bytes : LOW_RAM_END};
	if (bytes > HIGH_RAM)
		map.extents[map.n_extents++] = (struct vmm_extent){
		    .gpa = HIGH_RAM, .bytes = bytes - HIGH_RAM, .offset = HIGH_RAM};
	return map;
}

/* The file gets a second name, in place of the empty layer @id. */
static int move_to_layer(struct model *model, int dir, const char *id)
{
	_cleanup_close_ int layers =
	    openat(model->state_fd, "layers", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	char name[ID_TEXT + 8];

	snprintf(name, sizeof(name), "%s.mem", id);
	remove_file(dir, MEMORY_NEW);
	if (layers < 0 || linkat(dir, MEMORY_FILE, dir, MEMORY_NEW, 0) < 0 ||
	    renameat(dir, MEMORY_NEW, layers, name) < 0)
		return -errno;
	return file_sync_dir(layers);
}

static int write_map(int dir, const struct memory_map *map)
{
	_cleanup_strbuf_ struct strbuf sb = STRBUF_INIT;

	memory_map_format(map, &sb);
	return sb.failed ? -ENOMEM : file_replace(dir, MEMORY_FILE, sb.data, sb.len, 0600);
}

static int convert(struct machine *m, int dir, struct err *err)
{
	_cleanup_free_ struct memory_map *map = malloc(sizeof(*map));
	_cleanup_close_ int fd = -1;
	char id[ID_TEXT];
	struct stat st;
	int r;

	if (!map || fstatat(dir, MEMORY_FILE, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_set(err, map ? -errno : -ENOMEM, "saved memory: it cannot be read");
	r = layer_make(m->model, LAYER_MEMORY, id, &fd, err);
	if (r < 0)
		return r;
	*map = map_of_file((uint64_t)st.st_size, id);
	r = move_to_layer(m->model, dir, id);
	if (r == 0)
		r = write_map(dir, map);
	if (r < 0) {
		layer_put(m->model, LAYER_MEMORY, id);
		return err_set(err, r, "saved memory: it cannot be made a layer: %s", strerror(-r));
	}
	set_memory(m, take_ptr(map)); /* with the layer's first reference */
	log_info("a saved memory of an earlier version is a layer now");
	return 0;
}

/* --- loading --------------------------------------------------------------------------------
 */

static int read_text(int dir, const char *name, char **text, size_t *len, struct err *err)
{
	int r = file_read(dir, name, TEXT_MAX, text, len);

	return r < 0 ? err_set(err, r, "%s", strerror(-r)) : 0;
}

static int load_memory(struct machine *m, int dir, struct err *err)
{
	_cleanup_free_ char *text = NULL;
	struct memory_map *map = NULL;
	size_t len = 0;
	int r;

	if (!is_map(dir))
		return convert(m, dir, err);
	r = read_text(dir, MEMORY_FILE, &text, &len, err);
	if (r == 0)
		r = memory_map_parse(text, len, &map, err);
	if (r < 0)
		return err_prefix(err, "saved memory"), r;
	memory_map_get(m->model, map);
	set_memory(m, map);
	return 0;
}

/* As an earlier version wrote it: with disks that have no layers. */
static bool as_noted(const struct layer_set *set)
{
	for (size_t i = 0; i < set->n; i++)
		if (set->disks[i].chain.n == 0)
			return false;
	return true;
}

static int settle_as_before(struct machine *m, int dir, const struct layer_set *set,
			    struct err *err)
{
	int r = machine_layers_set(m, set, err);

	if (r < 0)
		return r;
	remove_file(dir, LAYERS_FILE);
	/* or they might be found again after others have taken their place */
	r = file_sync_dir(dir);
	return r < 0 ? err_set(err, r, "%s", strerror(-r)) : 0;
}

/* Gives the machine the layers that it is to go on with. */
static int settle_layers(struct machine *m, int dir, struct err *err)
{
	_cleanup_(layer_set_free) struct layer_set set = {0};
	_cleanup_free_ char *text = NULL;
	size_t len = 0;
	int r = file_read(dir, LAYERS_FILE, TEXT_MAX, &text, &len);

	if (r == -ENOENT)
		return 0;
	r = r < 0 ? err_set(err, r, "%s", strerror(-r)) : layer_set_parse(text, len, &set, err);
	if (r == 0)
		r = as_noted(&set) ? machine_layers_take(m, &set, dir, LAYERS_FILE, err)
				   : settle_as_before(m, dir, &set, err);
	return r < 0 ? err_prefix(err, "saved layers"), r : 0;
}

/* They could not be given to the machine yet: for whoever tries again. */
static void keep_layers(struct machine *m, int dir)
{
	_cleanup_(layer_set_free) struct layer_set set = {0};
	_cleanup_free_ char *text = NULL;
	size_t len = 0;

	if (file_read(dir, LAYERS_FILE, TEXT_MAX, &text, &len) == 0 &&
	    layer_set_parse(text, len, &set, NULL) == 0)
		layer_set_get(m->model, &set);
	else
		layers_keep_all(m->model); /* it cannot be told what it refers to */
}

static void load(struct machine *m)
{
	_cleanup_close_ int dir = store_open_dir(m);
	struct err err = ERR_INIT;
	int r = dir < 0 ? err_set(&err, dir, "its directory: %s", strerror(-dir))
			: load_memory(m, dir, &err);

	if (r < 0) {
		layers_keep_all(m->model);
	} else {
		r = settle_layers(m, dir, &err);
		if (r < 0)
			keep_layers(m, dir);
	}
	if (r == 0)
		return;
	err.code = r;
	machine_outcome(m, "load", &err);
	log_error("machine %s: %s", m->name, err.text);
}

void saved_load_all(struct model *model)
{
	uint64_t cursor = 0;
	struct machine *m;

	while ((m = model_machine_next(model, &cursor))) {
		if (m->saved)
			load(m);
		machine_put(m);
	}
}

/* --- opening --------------------------------------------------------------------------------
 */

static struct memory_map *copy_memory(struct machine *m)
{
	struct memory_map *copy = malloc(sizeof(*copy));
	bool there;

	pthread_mutex_lock(&m->lock);
	there = m->saved_memory;
	if (copy && there)
		*copy = *m->saved_memory;
	pthread_mutex_unlock(&m->lock);
	if (!copy || there)
		return copy;
	free(copy);
	return NULL;
}

int saved_open(struct machine *m, struct saved_opened *saved, struct err *err)
{
	_cleanup_close_ int dir = store_open_dir(m);
	_cleanup_free_ struct memory_map *memory = NULL;
	_cleanup_close_ int state = -1;
	int r;

	*saved = (struct saved_opened)SAVED_NOT_OPEN;
	if (dir < 0)
		return err_set(err, dir, "saved state: %s", strerror(-dir));
	state = openat(dir, STATE_FILE, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (state < 0)
		return err_set(err, -errno, "saved state: %s", strerror(errno));
	memory = copy_memory(m);
	if (!memory) {
		r = load_memory(m, dir, err); /* it could not be read before */
		if (r < 0)
			return r;
		memory = copy_memory(m);
	}
	if (!memory)
		return err_set(err, -ENOMEM, "out of memory");
	r = settle_layers(m, dir, err);
	if (r < 0)
		return r;
	r = memory_map_open(m->model, memory, saved->fds, err);
	if (r < 0)
		return err_prefix(err, "saved memory"), r;
	saved->memory = take_ptr(memory);
	saved->state = take_fd(&state);
	saved->again = faccessat(dir, AGAIN_FILE, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
	return 0;
}

void saved_close(struct saved_opened *saved)
{
	for (unsigned i = 0; saved->memory && i < saved->memory->n_files; i++)
		close(saved->fds[i]);
	free(saved->memory);
	if (saved->state >= 0)
		close(saved->state);
	*saved = (struct saved_opened)SAVED_NOT_OPEN;
}

/* --- making --------------------------------------------------------------------------------
 */

/* Now, or with others. */
static int sync_new(int *fd, struct sync_list *written)
{
	if (written)
		return sync_list_add(written, take_fd(fd));
	return fsync(*fd) < 0 ? -errno : 0;
}

static int write_new(int dir, const char *name, const struct strbuf *sb, struct sync_list *written)
{
	_cleanup_close_ int fd = -1;
	int r;

	remove_file(dir, name);
	fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0 || sb->failed)
		return fd < 0 ? -errno : -ENOMEM;
	r = file_write_all(fd, sb->data ? sb->data : "", sb->len);
	return r == 0 ? sync_new(&fd, written) : r;
}

static int write_texts(int dir, const struct memory_map *memory, const struct layer_set *layers,
		       struct sync_list *written)
{
	_cleanup_strbuf_ struct strbuf text = STRBUF_INIT, layers_text = STRBUF_INIT;
	int r;

	memory_map_format(memory, &text);
	r = write_new(dir, MEMORY_NEW, &text, written);
	if (r < 0 || !layers)
		return r;
	layer_set_format_noted(layers, &layers_text);
	return write_new(dir, LAYERS_NEW, &layers_text, written);
}

static int take_place(int dir, const char *from, const char *to)
{
	return renameat(dir, from, dir, to) < 0 ? -errno : 0;
}

static int no_room(int r)
{
	return r == -EDQUOT ? -ENOSPC : r;
}

/* From the last rename(2) on it is saved. */
static int take_places(int dir, bool layers)
{
	int r = take_place(dir, MEMORY_NEW, MEMORY_FILE);

	if (r == 0 && layers)
		r = take_place(dir, LAYERS_NEW, LAYERS_FILE);
	if (r == 0)
		r = file_sync_dir(dir);
	if (r == 0)
		r = take_place(dir, STATE_NEW, STATE_FILE);
	return r == 0 ? file_sync_dir(dir) : r;
}

static bool is_there(int dir, const char *name)
{
	return faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* All but `saved` gets its place, where that is free: @written gets the directory. */
static int take_places_early(int dir, bool layers, struct sync_list *written)
{
	int r;

	if (is_there(dir, STATE_FILE))
		return 0;
	remove_file(dir, LAYERS_FILE);
	r = take_place(dir, AGAIN_NEW, AGAIN_FILE);
	if (r == 0)
		r = take_place(dir, MEMORY_NEW, MEMORY_FILE);
	if (r == 0 && layers)
		r = take_place(dir, LAYERS_NEW, LAYERS_FILE);
	return r == 0 ? sync_list_add(written, fcntl(dir, F_DUPFD_CLOEXEC, 3)) : r;
}

int saved_commit(int dir, const struct memory_map *memory, struct err *err)
{
	int r = write_texts(dir, memory, NULL, NULL);

	r = no_room(r == 0 ? take_places(dir, false) : r);
	return r < 0 ? err_set(err, r, "cannot save: %s", strerror(-r)) : 0;
}

static int copy_state(int dir, int from, struct sync_list *written)
{
	_cleanup_free_ char *buf = malloc(COPY_BYTES);
	_cleanup_close_ int to = -1;
	ssize_t n;
	int r = 0;

	remove_file(dir, STATE_NEW);
	to = openat(dir, STATE_NEW, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (to < 0 || !buf)
		return to < 0 ? -errno : -ENOMEM;
	for (off_t at = 0; r == 0; at += n) {
		n = pread(from, buf, COPY_BYTES, at);
		if (n < 0 && errno == EINTR) {
			n = 0;
			continue;
		}
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		r = file_pwrite_all(to, buf, (size_t)n, at);
	}
	return r == 0 ? sync_new(&to, written) : r;
}

/* Others go on from that state, too, or did before. */
static int write_again(int dir)
{
	_cleanup_close_ int fd =
	    openat(dir, AGAIN_NEW, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

	return fd < 0 ? -errno : 0;
}

static void unprepare(int dir)
{
	remove_new(dir);
	if (is_there(dir, STATE_FILE))
		return; /* they are its own */
	remove_file(dir, AGAIN_FILE);
	remove_file(dir, LAYERS_FILE);
	remove_file(dir, MEMORY_FILE);
}

int saved_prepare(struct machine *m, int state, const struct memory_map *memory,
		  const struct layer_set *layers, struct sync_list *written, struct err *err)
{
	_cleanup_close_ int dir = store_open_dir(m);
	int r = dir < 0 ? dir : copy_state(dir, state, written);

	if (r == 0)
		r = write_texts(dir, memory, layers, written);
	if (r == 0)
		r = write_again(dir);
	if (r == 0)
		r = take_places_early(dir, layers, written);
	if (r == 0)
		return 0;
	if (dir >= 0)
		unprepare(dir);
	r = no_room(r);
	return err_set(err, r, "cannot write the state: %s", strerror(-r));
}

void saved_unprepare(struct machine *m)
{
	_cleanup_close_ int dir = store_open_dir(m);

	if (dir >= 0)
		unprepare(dir);
}

/* Of a machine that was saved until now. */
static int replace_saved(struct machine *m, int dir, bool layers, struct err *err)
{
	int r = saved_drop(m, err);

	if (r < 0)
		return r;
	r = take_place(dir, AGAIN_NEW, AGAIN_FILE);
	if (r == 0)
		r = take_place(dir, MEMORY_NEW, MEMORY_FILE);
	if (r == 0 && layers)
		r = take_place(dir, LAYERS_NEW, LAYERS_FILE);
	if (r == 0)
		r = file_sync_dir(dir);
	return r < 0 ? err_set(err, r, "cannot save: %s", strerror(-r)) : 0;
}

/* What is prepared takes the place of what there is. Takes @memory. */
static int replace(struct machine *m, int dir, struct memory_map *memory, bool layers, bool config,
		   struct err *err)
{
	int r = is_there(dir, STATE_FILE) ? replace_saved(m, dir, layers, err) : 0;

	if (r == 0) {
		r = config ? take_place(dir, CONFIG_NEW, CONFIG_FILE) : 0;
		if (r == 0 && config)
			r = file_sync_dir(dir);
		if (r == 0)
			r = take_place(dir, STATE_NEW, STATE_FILE);
		/* else with the layers, in the order in which the names changed */
		if (r == 0 && !layers)
			r = file_sync_dir(dir);
		if (r < 0)
			err_set(err, r, "cannot save: %s", strerror(-r));
	}
	if (r < 0) {
		saved_forget(dir);
		free(memory);
		return r;
	}
	memory_map_get(m->model, memory);
	set_memory(m, memory);
	return 0;
}

/* It is saved with that definition on disk; now it has it. */
static int define(struct machine *m, int dir, const struct saved_config *config, struct err *err)
{
	struct err ignored = ERR_INIT;
	int r = config->store(config->arg, err);

	if (r < 0) {
		if (saved_drop(m, &ignored) < 0)
			log_warn("%s", ignored.text);
		return r;
	}
	remove_file(dir, CONFIG_FILE);
	/* or it might be found again after others have taken its place */
	if (file_sync_dir(dir) < 0)
		log_warn("machine %s: its directory cannot be synced", m->name);
	return 0;
}

/* With them, what was renamed before is durable. */
static int settle_or_keep(struct machine *m, int dir, struct err *err)
{
	struct err later = ERR_INIT;
	int r;

	if (settle_layers(m, dir, &later) == 0)
		return 0;
	log_warn("%s", later.text); /* who starts it tries again */
	keep_layers(m, dir);
	r = file_sync_dir(dir);
	if (r < 0) {
		saved_forget(dir);
		err_set(err, r, "cannot save: %s", strerror(-r));
	}
	return r;
}

static int finish(struct machine *m, const struct memory_map *memory,
		  const struct layer_set *layers, const struct saved_config *config,
		  const char *reason, struct err *err)
{
	_cleanup_close_ int dir = store_open_dir(m);
	struct memory_map *copy = malloc(sizeof(*copy));
	int r;

	if (dir < 0 || !copy) {
		free(copy);
		return err_set(err, dir < 0 ? dir : -ENOMEM, "cannot save: %s",
			       strerror(dir < 0 ? -dir : ENOMEM));
	}
	*copy = *memory;
	r = replace(m, dir, copy, layers, config, err);
	if (r == 0 && config)
		r = define(m, dir, config, err);
	if (r == 0 && layers)
		r = settle_or_keep(m, dir, err);
	pthread_mutex_lock(&m->lock);
	m->saved = r == 0;
	if (r == 0)
		machine_set_state(m, MACHINE_SAVED, reason);
	else if (m->state == MACHINE_SAVED)
		machine_set_state(m, MACHINE_STOPPED, reason);
	pthread_mutex_unlock(&m->lock);
	return r;
}

int saved_finish(struct machine *m, const struct memory_map *memory, const struct layer_set *layers,
		 const char *reason, struct err *err)
{
	return finish(m, memory, layers, NULL, reason, err);
}

static int prepare_config(struct machine *m, const struct saved_config *config,
			  struct sync_list *written, struct err *err)
{
	_cleanup_close_ int dir = store_open_dir(m);
	int r = dir < 0 ? dir : no_room(write_new(dir, CONFIG_NEW, config->text, written));

	return r < 0 ? err_set(err, r, "cannot write the definition: %s", strerror(-r)) : 0;
}

int saved_make(struct machine *m, int state, const struct memory_map *memory,
	       const struct layer_set *layers, const struct saved_config *config,
	       const char *reason, struct err *err)
{
	struct sync_list written = {0};
	int r = saved_prepare(m, state, memory, layers, &written, err);

	if (r == 0 && config)
		r = prepare_config(m, config, &written, err);
	if (r == 0) {
		r = no_room(sync_list_sync(&written));
		if (r < 0)
			err_set(err, r, "cannot write the state: %s", strerror(-r));
	}
	sync_list_free(&written);
	if (r < 0)
		saved_unprepare(m);
	return r < 0 ? r : finish(m, memory, layers, config, reason, err);
}

/* --- the definition, meanwhile --------------------------------------------------------------
 */

static int refuse(struct err *err, const char *what, const char *name)
{
	return err_set(err, -EBUSY, "%s%s: the machine is saved: start it, or discard its state",
		       what, name);
}

static bool same_disk(const struct disk *a, const struct disk *b)
{
	return strcmp(a->values.source, b->values.source) == 0 &&
	       a->values.format == b->values.format && a->values.readonly == b->values.readonly;
}

int saved_permits(const struct definition *old, const struct definition *def, struct err *err)
{
	const struct machine_values *a = &old->values, *b = &def->values;

	if (a->cpus != b->cpus)
		return refuse(err, "cpus", "");
	if (a->memory != b->memory)
		return refuse(err, "memory", "");
	for (size_t i = 0; i < old->n_disks; i++) {
		const struct disk *d =
		    definition_disk((struct definition *)def, old->disks[i].name);

		if (!d || !same_disk(&old->disks[i], d))
			return refuse(err, "disk ", old->disks[i].name);
	}
	for (size_t i = 0; i < def->n_disks; i++)
		if (!definition_disk((struct definition *)old, def->disks[i].name))
			return refuse(err, "disk ", def->disks[i].name);
	for (size_t i = 0; i < old->n_nics; i++) {
		const struct nic *n = definition_nic(def, old->nics[i].name);

		if (!n || !nic_same_device(&old->nics[i], n))
			return refuse(err, "network card ", old->nics[i].name);
	}
	for (size_t i = 0; i < def->n_nics; i++)
		if (!definition_nic(old, def->nics[i].name))
			return refuse(err, "network card ", def->nics[i].name);
	return 0;
}
