// Which of the builds of run.cpp this processor can run; compiled for every processor of the architecture.

#if defined(__x86_64__)
#include <cpuid.h>

namespace {

bool has(unsigned value, unsigned bits) { return (value & bits) == bits; }

// Registers that the operating system saves: a processor may have them and the system not.
unsigned long long saved_registers() {
    unsigned low, high;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (unsigned long long)high << 32 | low;
}

}  // namespace

extern "C" __attribute__((visibility("default"))) const char* posewire_level() {
    unsigned a, b, c, d, features, extended;
    if (!__get_cpuid(1, &a, &b, &features, &d)) return "";
    const unsigned fma = 1u << 12, movbe = 1u << 22, osxsave = 1u << 27, avx = 1u << 28, f16c = 1u << 29;
    if (!has(features, fma | movbe | osxsave | avx | f16c) || !__get_cpuid_count(7, 0, &a, &extended, &c, &d)) return "";
    const unsigned bmi1 = 1u << 3, avx2 = 1u << 5, bmi2 = 1u << 8;
    if (!has(extended, bmi1 | avx2 | bmi2) || (saved_registers() & 0x6) != 0x6) return "";
    const unsigned f = 1u << 16, dq = 1u << 17, cd = 1u << 28, bw = 1u << 30, vl = 1u << 31;
    return has(extended, f | dq | cd | bw | vl) && (saved_registers() & 0xe6) == 0xe6 ? "avx512" : "avx2";
}
#else
extern "C" __attribute__((visibility("default"))) const char* posewire_level() { return "any"; }
#endif
