/* SPDX-License-Identifier: Apache-2.0 */
/* The checks of manta doctor. */
#ifndef MT_TOOLS_MANTA_DOCTOR_H
#define MT_TOOLS_MANTA_DOCTOR_H

enum verdict { DOCTOR_OK, DOCTOR_WARNING, DOCTOR_PROBLEM };
enum { DOCTOR_REACH_MS = 2000 }; /* for whom a connection is tried to */

/* One line of the report; `what` is the subject, the rest says what was found and what to do. */
void doctor_say(enum verdict verdict, const char *what, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Each prints its lines. */
void doctor_interfaces(void);
void doctor_tcp(void);
void doctor_verbs(void);
void doctor_ofi(void);
void doctor_unix_socket(void);
void doctor_shared_memory(void);
void doctor_cross_memory(void);
void doctor_cache_lines(void);
void doctor_configuration(void);
/* The addresses of a session, or, with session NULL, one host. -1: it is none. */
int doctor_reach(const char *session, const char *host);

#endif
