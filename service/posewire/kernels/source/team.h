// Several threads on one run: parts of an operation go to whoever comes for them, and who comes late, or never, is not waited for.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

// Zero before a run.
struct Team {
    int64_t ticket;  // number of the operation << 32 | parts of it that are taken from its beginning << 16 | from its end
    int64_t done;    // parts of it that are done
};

inline void rest() {
#if defined(__x86_64__)
    _mm_pause();
#endif
}

// Runs `count` operations: perform(operation, part) for every part of parts(operation), each operation after all of the one before it.
// To be called by each thread with the same team; when it returns, all is done. A helper takes parts from the end, so that both find
// most of what they need where they left it.
template <typename Parts, typename Perform>
void together(Team* team, bool helper, int count, Parts parts, Perform perform) {
    for (;;) {
        int64_t ticket = __atomic_load_n(&team->ticket, __ATOMIC_ACQUIRE);
        const int operation = int(ticket >> 32), begun = int(ticket >> 16 & 0xffff), ended = int(ticket & 0xffff);
        if (operation == count) return;
        const int all = parts(operation);
        const int64_t taken = ticket + (helper ? 1 : 1 << 16);
        if (begun + ended == all || !__atomic_compare_exchange_n(&team->ticket, &ticket, taken, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
            rest();
            continue;
        }
        perform(operation, helper ? all - 1 - ended : begun);
        if (__atomic_add_fetch(&team->done, 1, __ATOMIC_ACQ_REL) == all) {
            __atomic_store_n(&team->done, 0, __ATOMIC_RELAXED);
            __atomic_store_n(&team->ticket, int64_t(operation + 1) << 32, __ATOMIC_RELEASE);
        }
    }
}

}  // namespace
