// Runs decode/engines/search.cu on a CPU: a block's threads are fibers, switched at every barrier, so
// that what the kernels compute can be tested where there is no GPU. Included before the source, whose
// `extern __shared__` line the builder replaces. Blocks run one after the other.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <algorithm>
#include <ucontext.h>
#include <vector>
#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static
#define EMULATED 1
using std::max;
using std::min;
struct uint2 { unsigned x, y; };
struct uint4 { unsigned x, y, z, w; };
static uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
static unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((unsigned long long)a * b >> 32); }
struct Dim { unsigned x; };
static Dim threadIdx, blockIdx, blockDim, gridDim;
static unsigned long long emulated_space[1 << 16];

// How to go over from one stack to another. glibc's swapcontext asks the kernel for the signal mask each time,
// and barriers are all that a kernel's emulation does.
#if defined(__x86_64__)
typedef void *Context;
extern "C" __attribute__((visibility("hidden"))) void uyir_switch(Context *from, Context to);
asm(".text\n.hidden uyir_switch\n.globl uyir_switch\nuyir_switch:\n"
    "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
    "mov %rsp, (%rdi)\nmov %rsi, %rsp\n"
    "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n");
static void go_over(Context &from, Context &to) { uyir_switch(&from, to); }
static void begin_at(Context &c, std::vector<char> &stack, void (*main)()) {
    // What uyir_switch pops: six registers, where to go; the stack is aligned as after a call.
    void **top = (void **)(((size_t)(stack.data() + stack.size()) & ~(size_t)15) - 16);
    top[1] = 0;
    top[0] = (void *)main;
    memset(top - 6, 0, 6 * sizeof(void *));
    c = top - 6;
}
#else
typedef ucontext_t Context;
static void go_over(Context &from, Context &to) { swapcontext(&from, &to); }
static void begin_at(Context &c, std::vector<char> &stack, void (*main)()) {
    getcontext(&c);
    c.uc_stack.ss_sp = stack.data();
    c.uc_stack.ss_size = stack.size();
    c.uc_link = 0;
    makecontext(&c, main, 0);
}
#endif

struct Fiber { Context context; bool done; unsigned id; std::vector<char> stack; };
struct Barrier { unsigned arrived = 0, generation = 0, members = 0; };
static std::vector<Fiber> fibers;
static Context scheduler;
static Barrier block_barrier, warp_barrier[64];
static unsigned long long lane_value[64][32];
static unsigned current;

static void pause_fiber() {
    unsigned me = current;
    go_over(fibers[me].context, scheduler);
    current = me;
    threadIdx.x = me;
}
static void wait_at(Barrier &b) {
    unsigned generation = b.generation;
    if (++b.arrived == b.members) { b.arrived = 0; ++b.generation; return; }
    while (b.generation == generation) pause_fiber();
}
static void __syncthreads() { wait_at(block_barrier); }
static void __syncwarp() { wait_at(warp_barrier[threadIdx.x / 32]); }
template <class F> static auto with_warp(unsigned long long mine, F f) {
    unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    lane_value[warp][lane] = mine;
    __syncwarp();
    auto result = f(lane_value[warp], lane);
    __syncwarp();
    return result;
}
template <class T> static unsigned long long bits_of(T x) { unsigned long long b = 0; memcpy(&b, &x, sizeof x); return b; }
template <class T> static T value_of(unsigned long long b) { T x; memcpy(&x, &b, sizeof x); return x; }
typedef unsigned long long *Lanes;
static unsigned __reduce_max_sync(unsigned, unsigned x) { return with_warp(x, [](Lanes v, unsigned) { unsigned r = 0; for (int i = 0; i < 32; ++i) r = max(r, (unsigned)v[i]); return r; }); }
static unsigned __reduce_min_sync(unsigned, unsigned x) { return with_warp(x, [](Lanes v, unsigned) { unsigned r = ~0u; for (int i = 0; i < 32; ++i) r = min(r, (unsigned)v[i]); return r; }); }
static unsigned __reduce_add_sync(unsigned, unsigned x) { return with_warp(x, [](Lanes v, unsigned) { unsigned r = 0; for (int i = 0; i < 32; ++i) r += (unsigned)v[i]; return r; }); }
static unsigned __reduce_or_sync(unsigned, unsigned x) { return with_warp(x, [](Lanes v, unsigned) { unsigned r = 0; for (int i = 0; i < 32; ++i) r |= (unsigned)v[i]; return r; }); }
static unsigned __ballot_sync(unsigned, bool x) { return with_warp(x, [](Lanes v, unsigned) { unsigned r = 0; for (int i = 0; i < 32; ++i) r |= (unsigned)(v[i] != 0) << i; return r; }); }
static bool __any_sync(unsigned, bool x) { return __ballot_sync(0, x) != 0; }
template <class T> static T __shfl_sync(unsigned, T x, int from) { return with_warp(bits_of(x), [=](Lanes v, unsigned) { return value_of<T>(v[from & 31]); }); }
template <class T> static T __shfl_up_sync(unsigned, T x, unsigned d) { return with_warp(bits_of(x), [=](Lanes v, unsigned l) { return value_of<T>(v[l >= d ? l - d : l]); }); }
template <class T> static T __shfl_down_sync(unsigned, T x, unsigned d) { return with_warp(bits_of(x), [=](Lanes v, unsigned l) { return value_of<T>(v[l + d < 32 ? l + d : l]); }); }
template <class T> static T __shfl_xor_sync(unsigned, T x, unsigned d) { return with_warp(bits_of(x), [=](Lanes v, unsigned l) { return value_of<T>(v[l ^ d]); }); }
static int __popc(unsigned x) { return __builtin_popcount(x); }
static int __ffs(unsigned x) { return __builtin_ffs((int)x); }
static unsigned __float_as_uint(float x) { return (unsigned)bits_of(x); }
static float __uint_as_float(unsigned x) { return value_of<float>(x); }
static float __int_as_float(int x) { return value_of<float>((unsigned)x); }
template <class T> static T atomicAdd(T *p, T x) { T old = *p; *p = old + x; return old; }
template <class T> static T atomicMax(T *p, T x) { T old = *p; if (x > old) *p = x; return old; }
template <class T> static T atomicMin(T *p, T x) { T old = *p; if (x < old) *p = x; return old; }
template <class T> static T atomicOr(T *p, T x) { T old = *p; *p = old | x; return old; }
template <class T> static T atomicCAS(T *p, T expected, T x) { T old = *p; if (old == expected) *p = x; return old; }

static void (*emulated_kernel)(void **);
static void **emulated_arguments;
static void fiber_main() {
    emulated_kernel(emulated_arguments);
    Fiber &me = fibers[current];
    me.done = true;
    --block_barrier.members;
    --warp_barrier[me.id / 32].members;
    if (block_barrier.members && block_barrier.arrived == block_barrier.members) { block_barrier.arrived = 0; ++block_barrier.generation; }
    go_over(me.context, scheduler);
}
static void run_grid(void (*kernel)(void **), unsigned grid, unsigned block, void **arguments) {
    emulated_kernel = kernel;
    emulated_arguments = arguments;
    gridDim.x = grid;
    blockDim.x = block;
    for (blockIdx.x = 0; blockIdx.x < grid; ++blockIdx.x) {
        if (fibers.size() < block) fibers.resize(block);
        block_barrier = Barrier();
        block_barrier.members = block;
        for (unsigned i = 0; i < block; ++i) {
            Fiber &f = fibers[i];
            f.done = false;
            f.id = i;
            f.stack.resize(1 << 16);
            if (i % 32 == 0) { warp_barrier[i / 32] = Barrier(); warp_barrier[i / 32].members = 32; }
            begin_at(f.context, f.stack, fiber_main);
        }
        for (unsigned left = block; left;) {
            left = 0;
            for (unsigned i = 0; i < block; ++i) {
                if (fibers[i].done) continue;
                current = i;
                threadIdx.x = i;
                go_over(scheduler, fibers[i].context);
                left += !fibers[i].done;
            }
        }
    }
}
