/* SPDX-License-Identifier: ISC */
#ifndef FV_VMM_SANDBOX_INT_H
#define FV_VMM_SANDBOX_INT_H
/*
 * Is this built with AddressSanitizer or ThreadSanitizer? Their run time opens
 * files of /proc, traces, and makes whatever system calls it likes.
 */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANDBOX_INSTRUMENTED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANDBOX_INSTRUMENTED 1
#endif
#endif
#ifndef SANDBOX_INSTRUMENTED
#define SANDBOX_INSTRUMENTED 0
#endif

#endif
