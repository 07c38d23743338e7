// What the kernels of search.cu and lattice.cu share: the graph, the batch, what a search records, and how a
// warp shares out work. Compiled at run time; the host's side is cuda_session.py.
//
// Macros: INPUT_KIND (log_probs are 0: float32, 1: float16, 2: bfloat16), STATE_BITS (of a packed arc's
// first word; the rest is the token), THREADS and BLOCKS (a multiprocessor).

typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned char u8;
typedef unsigned short u16;

#if INPUT_KIND == 0
typedef float Input;
#else
typedef u16 Input;
#endif

#define FULL 0xffffffffu
#define EMPTY 0x7fffffffu
#define NO_ARC 0xffffffffu
#define NO_FRAME 0x7fffffffu
#define WARPS (THREADS / 32)
#define INFINITE (__int_as_float(0x7f800000))
#define LOWEST (-INFINITE)
#define STATE_MASK ((u32)((1ull << STATE_BITS) - 1))

enum Status { RUNNING = 0, DONE = 1, BAD_INPUT = 2, POOL_FULL = 3, TABLE_FULL = 4, DEAD = 5 };

struct Graph {
    const uint2 *arc;      // emitting: target | token << STATE_BITS, weight
    const uint4 *state;    // (S) first arc; blanks << 24 | arcs; how many others cost at most 0, 2, … 14 (255: all)
    const uint2 *eps;      // epsilons: target, weight
    const u32 *eps_row;    // (S - first_eps + 1)
    const uint4 *closure;  // chains of epsilons: target, weight, number of the last one
    const u32 *closure_row; // (S - first_eps + 1)
    const u32 *source;     // (A + X)
    const u32 *olabel;     // (A + X)
    const float *final;    // (S)
    const u8 *level;       // (S)
    u32 first_eps, num_emitting, start;
    float least_cost;      // of an emitting arc, at most 0
};

struct Batch {
    const Input *log_probs;
    long long stride_n, stride_t, stride_c;
    const int *row;        // (U) row of log_probs
    const int *length;     // (U) frames to search in all
    const int *skip;       // (U) frames that came before row 0 of log_probs
    const int *order;      // (U) longest first
    const long long *first; // (U) place of frame 0 in the tables of frames
    int utterances, tokens;
    float beam, scale;
    u32 max_active;
};

struct Record {
    u32 *state, *arc;      // (P) active states and the arcs they came by, frame by frame; arc may be null
    float *score;          // (P), or (U, 2, room): of the last two frames alone
    u64 capacity;
    u64 *top;
    u32 room, chunk;       // room 0: all scores are kept; places of the pool that a block takes at a time
    u32 *base, *count;     // by frame
    float *norm;           // by frame
    int *frame;            // (U) frames done, -1: not begun
    int *status;
    u64 *best;             // (U, 2) ordered score | ~state of the best end in a final state, and in any
    u64 *visited, *active; // (U)
    u32 *most;             // (U) active states at once
    int *restarts;
    u32 *path;             // arcs of the best path, last first
    const int *path_first; // (U + 1)
    int *path_length;      // (U)
};

__device__ __forceinline__ u32 ordered(float x) {
    u32 bits = __float_as_uint(x);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
__device__ __forceinline__ float unordered(u32 x) {
    return __uint_as_float(x & 0x80000000u ? x & 0x7fffffffu : ~x);
}
// The score that an ordered number stands for; 0 stands for none.
__device__ __forceinline__ float score_of(u32 x) { return x ? unordered(x) : LOWEST; }
__device__ __forceinline__ float score_in(u64 value) { return unordered((u32)(value >> 32)); }
__device__ __forceinline__ u64 valued(float score, u32 arc) { return ((u64)ordered(score) << 32) | (u32)~arc; }
__device__ __forceinline__ float reading(const Input *p) {
#if INPUT_KIND == 0
    return *p;
#elif INPUT_KIND == 1
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(*p));
    return x;
#else
    return __uint_as_float((u32)*p << 16);
#endif
}
__device__ __forceinline__ u64 max64(u64 a, u64 b) { return a > b ? a : b; }
__device__ __forceinline__ u32 warp_max(u32 x) { return __reduce_max_sync(FULL, x); }
__device__ __forceinline__ u32 lanes_before(u32 votes) { return __popc(votes & ((1u << (threadIdx.x & 31)) - 1)); }

// What 32 lanes have to do, so many entries each, laid in a row for the warp to share out evenly.
struct Pieces {
    uint2 piece[32];       // by owner: its first entry less its place in the row, and what it has to say
    u32 place[32];

    // Every lane's `degree` entries from `first` on; returns how many there are in all.
    __device__ __forceinline__ u32 lay(u32 first, u32 degree, u32 word) {
        u32 lane = threadIdx.x & 31, total = degree;
        for (int d = 1; d < 32; d *= 2) {
            u32 other = __shfl_up_sync(FULL, total, d);
            if (lane >= (u32)d) total += other;
        }
        u32 rank = lanes_before(__ballot_sync(FULL, degree != 0)), offset = total - degree;
        u32 sum = __shfl_sync(FULL, total, 31);
        place[lane] = FULL;
        __syncwarp();
        if (degree) { piece[rank] = make_uint2(first - offset, word); place[rank] = offset; }
        __syncwarp();
        return sum;
    }
};

// A warp's way along such a row, 32 entries at a time.
struct Walk {
    u32 place, started;
    __device__ __forceinline__ explicit Walk(const Pieces &p) : place(p.place[threadIdx.x & 31]), started(0) {}
    // Whose the entry at `chunk` + lane is; chunks come in order.
    __device__ __forceinline__ u32 owner(u32 chunk) {
        u32 here = place - chunk;  // huge if it lies before the chunk
        u32 marks = __reduce_or_sync(FULL, here < 32 ? 1u << here : 0u);
        u32 mine = started + __popc(marks & (FULL >> (31 - (threadIdx.x & 31)))) - 1;
        started += __popc(marks);
        return mine;
    }
};

// The blanks of a state and of its other arcs those that cost at most `slack`; they come in this order.
__device__ __forceinline__ u32 worth_looking(uint4 state, float slack, float least_cost, bool blanks) {
    u32 arcs = state.y & 0xffffffu, silent = blanks ? state.y >> 24 : 0;
    u32 others = 0;
    if (slack + 1e-3f >= least_cost) {
        if (slack > 13.9f) return arcs;
        int step = slack <= 0.0f ? 0 : (int)ceilf((slack + 1e-3f) * 0.5f);
        others = ((step < 4 ? state.z : state.w) >> (8 * (step & 3))) & 0xffu;
        if (others == 255) return arcs;
    }
    if (!others) return silent == 255 ? arcs : silent;
    return (state.y >> 24) == 255 ? arcs : (state.y >> 24) + others;
}
