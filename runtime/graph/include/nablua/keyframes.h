// SPDX-License-Identifier: MIT
// What tensors held at several moments, so that a training can go back to them.  A keyframe copies nothing when it is
// taken: it shares the bytes with the tensor, and with other keyframes, until somebody is about to write into them.
#ifndef NABLUA_KEYFRAMES_H
#define NABLUA_KEYFRAMES_H

#include "nablua/tensor.h"

// A sequence of keyframes, which hears of all writes until it is freed.  Its keyframes may outlive that, but cannot be
// restored any more.
typedef struct Keyframes Keyframes;
typedef struct Keyframe Keyframe;

// What somebody wrote, apart from where it was written.
typedef struct Withdrawn Withdrawn;

bool nb_keyframes_new(Keyframes **k, Error *err);
void nb_keyframes_free(Keyframes *k);  // NULL is ignored

// Bytes of copies that were made and are still needed.
size_t nb_keyframes_bytes(const Keyframes *k);

// How long copying has taken since the beginning.
double nb_keyframes_seconds(const Keyframes *k);

// How often, since the beginning, something was written that a keyframe holds, its restoring included; and how many
// copies could not be made for want of memory.
uint64_t nb_keyframes_writes(const Keyframes *k);
size_t nb_keyframes_lost(const Keyframes *k);

// Takes one of `count` tensors, of any dtype and layout; those that share memory are held once.
bool nb_keyframe_take(Keyframes *k, Tensor *const *list, int count, Keyframe **out, Error *err);
void nb_keyframe_free(Keyframe *f);  // NULL is ignored

// False when a copy that it needs could not be made.
bool nb_keyframe_whole(const Keyframe *f);

// Whether it holds what was in a storage.
bool nb_keyframe_holds(const Keyframe *f, const Storage *s);

// Writes back, in place, what the tensors held.  False, with nothing changed, when the keyframe is not whole.
bool nb_keyframe_restore(Keyframe *f, Error *err);

// Takes back what was written since a keyframe was taken, as if nobody had: bytes and versions are those of then, so
// that what a tape has saved is still what it was.  `out` gets what was written, or NULL where that is nothing.  False,
// with nothing changed, when there is no memory for it.
bool nb_keyframe_withdraw(Keyframe *f, Withdrawn **out, Error *err);

// Writes it after all, as any write; it may be written several times.
bool nb_withdrawn_write(const Withdrawn *w, Error *err);
void nb_withdrawn_free(Withdrawn *w);  // NULL is ignored

#endif
