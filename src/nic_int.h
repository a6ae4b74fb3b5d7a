/* SPDX-License-Identifier: ISC */
#ifndef FV_NIC_INT_H
#define FV_NIC_INT_H
/*
 * What the parts of machines' network cards know of each other: what a VMM has (nic_list.c),
 * plugging a card in (nic_tell.c), changes while it runs (nic_live.c), what guests say of
 * themselves (nic_news.c), pulling cables out when a VMM has gone (nic_release.c).
 *
 * A card's cable is plugged into its network before a VMM is told of the card, and pulled out
 * after the VMM has let go of it, or has ended. Networks may take their time for either, so
 * neither is done under a lock, or on the thread that hears VMMs.
 */
#include "model_int.h"
#include "nic.h"

struct vmm;
struct vmm_burst;

/* Whether a VMM is told of a change of that key at once. */
bool nic_key_is_live(const struct config_key *key);
/* Whether a guest that was stopped with a card @a may go on with @b. */
bool nic_same_device(const struct nic *a, const struct nic *b);

/* --- nic_list.c: what a VMM has --------------------------------------------------------------- */

/* Guarded by machine.lock. */
struct vmm_has_nic {
	struct vmm_has_nic *next;
	struct nic_plug plug; /* without descriptors */
	bool waits;	      /* the guest was asked to let go of it */
	bool capturing;
	bool stranger; /* the guest knows it by another's address: its cable is out */
	struct nic_seen seen;
};

/* All under machine.lock. */
struct vmm_has_nic *vmm_nic_find(struct vmm *vmm, const char *name);
/* Takes note of it. -ENOMEM. */
int vmm_nic_set(struct vmm *vmm, const struct nic_plug *plug);
/* Out of the list; who takes it has its cable pulled out, and frees it. NULL: there is none. */
struct vmm_has_nic *vmm_nic_take(struct vmm *vmm, const char *name);
/* Lines for the note that a later daemon reads, and reading one: false if it is none. */
void vmm_nics_note(struct vmm *vmm, struct strbuf *sb);
bool vmm_nics_read(struct vmm *vmm, const char *line);
void vmm_nics_free(struct vmm *vmm);

/* --- nic_release.c: cables of who has ended ----------------------------------------------------
 */

int nic_releases_open(struct nic_releases **releases);
/* From now on they are pulled out; before, they gather. When there are networks. */
int nic_releases_start(struct nic_releases *releases);
/* Does what is left, and ends. NULL is fine. */
void nic_releases_close(struct nic_releases *releases);
/* Under m->lock: has the cables of @list pulled out soon; takes it. */
void nic_release(struct machine *m, struct vmm_has_nic *list);
/* Not under a lock: until those of the machine's last run are out. -ETIMEDOUT, -ECANCELED. */
int nics_await_released(struct machine *m, struct cancel *cancel, struct err *err);

/* --- nic_tell.c --------------------------------------------------------------------------------
 */

/*
 * As nic_plug(), also of a card without a network; @cpus: of the guest. Words say of which card.
 * On success ends with nic_unplug_fds(), and nic_pull().
 */
int nic_plug_in(struct machine *m, const struct nic *nic, unsigned cpus, struct nic_plug *plug,
		struct cancel *cancel, struct err *err);
/* Its descriptors are the VMM's, or nobody's. */
void nic_close_fds(struct nic_plug *plug);
/* As nic_unplug(), also of a card without a network. */
void nic_pull(struct machine *m, struct nic_plug *plug);
/* VMM_NIC. @words (may be NULL): what the VMM has to say though it was done. @burst: as of
 * vmm_disk_tell(). */
int vmm_nic_tell(struct vmm *vmm, const struct nic *nic, const struct nic_plug *plug,
		 struct vmm_burst *burst, char words[VMM_TEXT_MAX], struct err *err);
/* VMM_NIC_SET: link and limits; the cable of one without a network (@has) stays out. */
int vmm_nic_tell_settings(struct vmm *vmm, const struct nic *nic, unsigned timeout_ms,
			  struct err *err);

/* VMM_NIC_CABLE: what it is plugged into instead, as @nic is to be. */
int vmm_nic_tell_cable(struct vmm *vmm, const struct nic *nic, const struct nic_plug *plug,
		       struct err *err);

/* --- nic_live.c: changes while a VMM has it ----------------------------------------------------
 */

enum nic_step_what { NIC_ATTACH, NIC_DETACH, NIC_MOVE, NIC_SETTINGS };

struct nic_step {
	enum nic_step_what what;
	const struct nic *from, *to; /* within the definitions below; NULL: none */
};

/* What was done to a VMM for a change of its machine's definition. */
struct nic_steps {
	struct vmm *vmm; /* a reference, as these; NULL where none ran */
	struct definition *old, *def;
	unsigned n_planned, n_done;
	struct nic_step list[2 * VMM_NICS_MAX];
};

/* As disks_follow(), and after it. The machine's devices are claimed. */
int nics_follow(struct machine *m, struct definition *old, struct definition *def,
		struct cancel *cancel, struct nic_steps **steps, struct err *err);
/* Both take @steps; NULL is fine. */
void nic_steps_take_back(struct machine *m, struct nic_steps *steps);
void nic_steps_free(struct nic_steps *steps);
/* Attaches one that is defined and not attached; detaches one that stays defined. */
int nic_attach(struct machine *m, const char *name, struct cancel *cancel, struct err *err);
int nic_detach(struct machine *m, const char *name, bool force, struct cancel *cancel,
	       struct err *err);
/* Begins a capture of at most @bytes anew, or ends it (0). */
int nic_capture(struct machine *m, const char *name, uint64_t bytes, struct err *err);
/* Under m->lock: a line of `events`. */
void nic_event(struct machine *m, const char *kind, const char *name, const char *network,
	       const char *note);
/* The VMM has it no longer; @note, in words or NULL, why. Any thread, not under machine.lock. */
void vmm_nic_gone(struct vmm *vmm, const char *name, const char *note);
/* Of a VMM that was found running: settings are told again, what it has lost is forgotten. */
void nics_recover(struct vmm *vmm);

#endif
