// SPDX-License-Identifier: ISC
/* What the daemon says of disks before there is a guest: layers gather, are bounded, and go. */
#include "control_peer.h"

#include <dirent.h>

#include "storage/image.h"

static unsigned fds_of(const struct peer *p)
{
	char path[64];
	unsigned n = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", p->pid);
	dir = opendir(path);
	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static int an_image(void)
{
	int fd = memfd_create("image", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	return fd;
}

static int tell_layer(struct peer *p, const struct vmm_layer *layer, int fd)
{
	return ask(p, VMM_LAYER, layer, sizeof(*layer), fd);
}

static int tell_disk(struct peer *p, const char *name, unsigned n_layers)
{
	struct vmm_disk disk = {.n_layers = n_layers};

	snprintf(disk.name, sizeof(disk.name), "%s", name);
	return ask(p, VMM_DISK, &disk, sizeof(disk), -1);
}

static void a_disk_is_made_of_its_layers(void **state)
{
	const struct vmm_layer raw = {.kind = VMM_LAYER_RAW};
	struct peer *p = start();
	int fd = an_image();

	(void)state;
	for (unsigned i = 0; i < VMM_DISKS_MAX; i++) {
		char name[16];

		snprintf(name, sizeof(name), "d%u", i);
		assert_int_equal(tell_layer(p, &raw, fd), 0);
		assert_int_equal(tell_disk(p, name, 1), 0);
	}
	assert_int_equal(tell_layer(p, &raw, fd), 0);
	assert_int_equal(tell_disk(p, "more", 1), -ENOSPC);
	close(fd);
	quit(p);
}

static void layers_that_are_refused_are_dropped(void **state)
{
	const struct vmm_layer raw = {.kind = VMM_LAYER_RAW};
	const struct vmm_layer wrong[] = {
	    {.kind = VMM_LAYER_NBD + 1},
	    {.kind = UINT32_MAX},
	    {.kind = VMM_LAYER_QCOW2, .has_data = 1}, /* and no second file */
	    {.kind = VMM_LAYER_RAW, .has_data = 1},
	};
	struct vmm_disk disk = {.name = "d", .n_layers = 1};
	struct peer *p = start();
	int fd = an_image();
	unsigned before;

	(void)state;
	assert_int_equal(hello(p), 0);
	before = fds_of(p);
	for (unsigned i = 0; i < nitems(wrong); i++) {
		assert_int_equal(tell_layer(p, &raw, fd), 0);
		assert_int_equal(tell_layer(p, &wrong[i], fd), -EINVAL);
		assert_int_equal(tell_disk(p, "d", 1), -EINVAL);
	}
	assert_int_equal(tell_layer(p, &raw, -1), -EPROTO);
	for (unsigned i = 0; i < VMM_LAYERS_MAX; i++)
		assert_int_equal(tell_layer(p, &raw, fd), 0);
	assert_int_equal(tell_layer(p, &raw, fd), -ENOSPC);
	assert_int_equal(tell_disk(p, "d", VMM_LAYERS_MAX), -EINVAL);
	/* a raw image over another, and one that is no qcow2 image */
	assert_int_equal(tell_layer(p, &raw, fd), 0);
	assert_int_equal(tell_layer(p, &raw, fd), 0);
	assert_int_equal(tell_disk(p, "d", 2), -EINVAL);
	assert_int_equal(tell_layer(p, &(struct vmm_layer){.kind = VMM_LAYER_QCOW2}, fd), 0);
	assert_int_equal(tell_disk(p, "d", 1), -EINVAL);
	/* an export over an image, and one that is no socket */
	assert_int_equal(tell_layer(p, &(struct vmm_layer){.kind = VMM_LAYER_NBD}, fd), 0);
	assert_int_equal(tell_layer(p, &raw, fd), 0);
	assert_int_equal(tell_disk(p, "d", 2), -EINVAL);
	assert_int_equal(tell_layer(p, &raw, fd), 0);
	assert_int_equal(tell_layer(p, &(struct vmm_layer){.kind = VMM_LAYER_NBD}, fd), 0);
	assert_int_equal(tell_disk(p, "d", 2), -EINVAL);
	assert_int_equal(tell_disk(p, "d", 0), -EINVAL);
	disk.cache = VMM_CACHE_UNSAFE + 1;
	assert_int_equal(tell_layer(p, &raw, fd), 0);
	assert_int_equal(ask(p, VMM_DISK, &disk, sizeof(disk), -1), -EINVAL);
	disk.cache = 0;
	disk.on_error = VMM_ON_ERROR_IGNORE + 1;
	assert_int_equal(tell_layer(p, &raw, fd), 0);
	assert_int_equal(ask(p, VMM_DISK, &disk, sizeof(disk), -1), -EINVAL);
	disk.on_error = 0;
	disk.queues = 17;
	assert_int_equal(tell_layer(p, &raw, fd), 0);
	assert_int_equal(ask(p, VMM_DISK, &disk, sizeof(disk), -1), -ERANGE);
	assert_int_equal(fds_of(p), before);
	/* and after all that */
	assert_int_equal(tell_layer(p, &raw, fd), 0);
	assert_int_equal(tell_disk(p, "d", 1), 0);
	assert_int_equal(tell_layer(p, &raw, fd), 0);
	assert_int_equal(tell_disk(p, "d", 1), -EEXIST);
	assert_int_equal(tell_layer(p, &raw, fd), 0);
	assert_int_equal(tell_disk(p, "", 1), -EEXIST);
	close(fd);
	quit(p);
}

static int an_overlay(void)
{
	const struct image_create params = {
	    .format = IMAGE_QCOW2, .bytes = 1 << 20, .backing = "what the daemon found"};
	int fd = memfd_create("overlay", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(image_create(fcntl(fd, F_DUPFD_CLOEXEC, 3), &params, NULL), 0);
	return fd;
}

/* Only the lowest of layers may be an export. */
static void images_may_stand_over_an_export(void **state)
{
	const struct vmm_layer raw = {.kind = VMM_LAYER_RAW}, qcow2 = {.kind = VMM_LAYER_QCOW2};
	const struct vmm_layer nbd = {.kind = VMM_LAYER_NBD, .bytes = 1 << 20};
	struct peer *p = start();
	int fd = an_image(), overlay = an_overlay(), other = an_overlay(), pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(tell_layer(p, &qcow2, overlay), 0);
	assert_int_equal(tell_layer(p, &nbd, pair[0]), 0);
	assert_int_equal(tell_disk(p, "two", 2), 0);
	assert_int_equal(tell_layer(p, &qcow2, other), 0);
	assert_int_equal(tell_layer(p, &qcow2, overlay), 0);
	assert_int_equal(tell_layer(p, &nbd, pair[0]), 0);
	assert_int_equal(tell_disk(p, "three", 3), 0);
	assert_int_equal(tell_layer(p, &raw, fd), 0);
	assert_int_equal(tell_layer(p, &nbd, pair[0]), 0);
	assert_int_equal(tell_disk(p, "raw over it", 2), -EINVAL);
	assert_int_equal(tell_layer(p, &qcow2, overlay), 0);
	assert_int_equal(tell_layer(p, &nbd, pair[0]), 0);
	assert_int_equal(tell_layer(p, &nbd, pair[0]), 0);
	assert_int_equal(tell_disk(p, "over each other", 3), -EINVAL);
	assert_int_equal(tell_layer(p, &qcow2, overlay), 0);
	assert_int_equal(tell_disk(p, "with nothing below", 1), -EINVAL);
	close(overlay);
	close(other);
	close(pair[0]);
	close(pair[1]);
	close(fd);
	quit(p);
}

static void what_changes_a_disk_needs_a_guest(void **state)
{
	struct vmm_disk disk = {.name = "d"};
	struct vmm_disk_resize resize = {.name = "d"};
	struct vmm_disk_limits limits = {.name = "d"};
	struct vmm_disk_name name = {.name = "d"};
	struct vmm_disk_rebase rebase = {.name = "d", .keep = 1, .n_layers = 1};
	struct peer *p = start();

	(void)state;
	assert_int_equal(ask(p, VMM_DISK_CHANGE, &disk, sizeof(disk), -1), -EBUSY);
	assert_int_equal(ask(p, VMM_DISK_RESIZE, &resize, sizeof(resize), -1), -EBUSY);
	assert_int_equal(ask(p, VMM_DISK_LIMITS, &limits, sizeof(limits), -1), -EBUSY);
	assert_int_equal(ask(p, VMM_DISK_CHANGE, &disk, sizeof(disk) - 1, -1), -EPROTO);
	assert_int_equal(ask(p, VMM_DISK_SNAPSHOT, "d", 2, -1), -EPROTO);
	assert_int_equal(ask(p, VMM_DISK_FREEZE, &name, sizeof(name), -1), -EBUSY);
	assert_int_equal(ask(p, VMM_DISK_STAGE, &name, sizeof(name), -1), -EPROTO);
	assert_int_equal(ask(p, VMM_DISK_REBASE, &rebase, sizeof(rebase), -1), -EBUSY);
	quit(p);
}

/* A name without an end is ended. */
static void names_are_ended(void **state)
{
	const struct vmm_layer raw = {.kind = VMM_LAYER_RAW};
	struct vmm_disk disk = {.n_layers = 1};
	struct peer *p = start();
	int fd = an_image();

	(void)state;
	memset(disk.name, 'x', sizeof(disk.name));
	memset(disk.serial, 'y', sizeof(disk.serial));
	assert_int_equal(tell_layer(p, &raw, fd), 0);
	assert_int_equal(ask(p, VMM_DISK, &disk, sizeof(disk), -1), 0);
	assert_int_equal(tell_layer(p, &raw, fd), 0);
	assert_int_equal(ask(p, VMM_DISK, &disk, sizeof(disk), -1), -EEXIST);
	close(fd);
	quit(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_disk_is_made_of_its_layers),
	    cmocka_unit_test(layers_that_are_refused_are_dropped),
	    cmocka_unit_test(images_may_stand_over_an_export),
	    cmocka_unit_test(what_changes_a_disk_needs_a_guest),
	    cmocka_unit_test(names_are_ended),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
