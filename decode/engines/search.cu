// Beam search on a GPU: an utterance is one block's work from its first frame to its last.
//
// `search` passes tokens frame by frame, `trace` reads the best paths, `rescan` walks back over what
// was recorded and keeps the pruned lattice with the best label sequences, `share` gives its arcs
// posteriors. The meaning is that of reference.py; the host's side is cuda.py.
//
// Compiled at run time with: INPUT_KIND (log_probs are 0: float32, 1: float16, 2: bfloat16), STATE_BITS (of a
// packed arc's first word; the rest is the token), THREADS and BLOCKS (a multiprocessor), LOG_SLOTS (of the
// table of a frame's states), SHARED_TABLE (whether it is in shared memory), LOG_ALIVE (of the lattice's).

typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned char u8;

#if INPUT_KIND == 0
typedef float Input;
#else
typedef unsigned short Input;
#endif

#define FULL 0xffffffffu
#define EMPTY 0x7fffffffu
#define FORCED 0x80000000u
#define NO_ARC 0xffffffffu
#define SLOTS (1u << LOG_SLOTS)
#define ALIVE (1u << LOG_ALIVE)
#define BINS 512
#define QUEUE 512
#define LISTED 2048
#define WARPS (THREADS / 32)
#define LOWEST (-__int_as_float(0x7f800000))

enum Status { RUNNING = 0, DONE = 1, BAD_INPUT = 2, POOL_FULL = 3, TABLE_FULL = 4, DEAD = 5 };

struct Graph {
    const uint2 *arc;      // emitting: target | token << STATE_BITS, weight
    const uint2 *eps;      // epsilons: target, weight
    const u32 *row;        // (S + 1)
    const u32 *eps_row;    // (S - first_eps + 1)
    const u32 *source;     // (A + X)
    const u32 *olabel;     // (A + X)
    const float *final;    // (S)
    const u8 *level;       // (S)
    u32 first_eps, num_emitting, start, most_blanks;
    float least_cost;
    int rising;
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
    int max_active;
};

struct Record {
    u32 *state, *arc;      // (P) active states, frame by frame
    float *score;
    u64 capacity;
    u64 *top;
    u32 *base, *count;     // by frame
    float *norm;           // by frame
    int *frame;            // (U) frames done, -1: not begun
    int *status;
    u64 *best;             // (U) ordered score | ~state of the best end
    u64 *visited, *active; // (U)
    int *restarts;
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
__device__ __forceinline__ u32 hash_of(u32 state, int bits) { return (state * 2654435769u) >> (32 - bits); }
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

struct Shared {
    u32 best;              // ordered
    u32 floor;             // ordered: the cut-off raised after the table ran full
    u32 lost;              // the table is full
    u32 queued[2];
    u32 rescan[2];
    u32 kept, base_ok, bad, next, changed;
    u32 best_state;
    u64 end;
    u64 base;
    float row_best;
    u32 within;
    u32 bins[BINS];
    u32 cut_bin;
    u32 queue[2][QUEUE];
    u32 used;              // slots taken: the first LISTED of them are in the list
    unsigned short list[LISTED];
    u32 begin[WARPS][32];
    u32 place[WARPS][32];
    float score[WARPS][32];
};

// The table of one frame's states: key, then ordered score | ~arc.
struct Table {
    u32 *key;
    u64 *value;
};

enum { SAME, RAISED };

// Bring a path into a state; RAISED if it is the best one so far. The slot is returned through `at`.
__device__ __forceinline__ int enter(Table table, Shared *s, u32 state, u64 value, u32 *at) {
    u32 slot = hash_of(state, LOG_SLOTS);
    for (u32 tried = 0; tried < SLOTS; ++tried) {
        u32 key = *(volatile u32 *)&table.key[slot];
        if (key == EMPTY) {
            key = atomicCAS(&table.key[slot], EMPTY, state);
            if (key == EMPTY) {
                key = state;
                if (SLOTS <= 65536 && *(volatile u32 *)&s->used <= LISTED) {
                    u32 place = atomicAdd(&s->used, 1u);
                    if (place < LISTED) s->list[place] = (unsigned short)slot;
                }
            }
        }
        if (key == state) {
            *at = slot;
            if (*(volatile u64 *)&table.value[slot] >= value) return SAME;
            return atomicMax(&table.value[slot], value) < value ? RAISED : SAME;
        }
        if (tried == 192 || (tried > 32 && *(volatile u32 *)&s->lost)) break;
        slot = (slot + 1) & (SLOTS - 1);
    }
    s->lost = 1;
    return SAME;
}

// The slots to look at: those listed if all are, else the whole table. For a frame with few states this
// is most of the time there is to save.
struct Slots {
    const unsigned short *list;
    u32 count;
    bool listed;
    __device__ __forceinline__ explicit Slots(const Shared *s)
        : list(s->list), count(s->used <= LISTED ? s->used : SLOTS), listed(s->used <= LISTED) {}
    __device__ __forceinline__ u32 operator[](u32 i) const { return listed ? list[i] : i; }
};

__device__ __forceinline__ u32 warp_max(u32 x) { return __reduce_max_sync(FULL, x); }

// Follow the epsilons of the states in the table until nothing changes; `floor` is fixed meanwhile.
__device__ u32 follow_epsilons(const Graph &g, Table table, Shared *s, float floor) {
    u32 tid = threadIdx.x, visits = 0;
    if (tid < 2) s->queued[tid] = s->rescan[tid] = 0;
    __syncthreads();
    u32 round = 0;
    for (bool all = true;; all = s->rescan[round & 1] != 0, ++round) {
        // Round 0 and rounds after a full queue look at the whole table.
        u32 in = (round + 1) & 1, out = round & 1;
        Slots slots(s);
        u32 work = all ? slots.count : s->queued[in];
        __syncthreads();
        for (u32 i = tid; i < work; i += THREADS) {
            u32 slot = all ? slots[i] : s->queue[in][i];
            u32 state = table.key[slot];
            if (state == EMPTY || state < g.first_eps) continue;
            float score = unordered((u32)(*(volatile u64 *)&table.value[slot] >> 32));
            if (!(score >= floor)) continue;
            u32 begin = g.eps_row[state - g.first_eps], end = g.eps_row[state - g.first_eps + 1];
            visits += end - begin;
            for (u32 e = begin; e < end; ++e) {
                uint2 arc = g.eps[e];
                float there = score + __uint_as_float(arc.y);
                if (!(there >= floor) || there == LOWEST) continue;
                u32 at;
                u64 value = ((u64)ordered(there) << 32) | (u32)~(g.num_emitting + e);
                if (enter(table, s, arc.x, value, &at) == RAISED && arc.x >= g.first_eps) {
                    u32 place = atomicAdd(&s->queued[out], 1u);
                    if (place < QUEUE) s->queue[out][place] = at;
                    else s->rescan[out] = 1;
                }
            }
        }
        __syncthreads();
        bool done = s->queued[out] == 0 || s->lost;
        if (tid == 0) { s->queued[in] = 0; s->rescan[in] = 0; }
        if (done) break;
    }
    __syncthreads();
    return visits;
}

__device__ u32 find_slot(Table table, u32 state) {
    u32 slot = hash_of(state, LOG_SLOTS);
    for (u32 tried = 0; tried < SLOTS; ++tried, slot = (slot + 1) & (SLOTS - 1)) {
        u32 key = table.key[slot];
        if ((key & ~FORCED) == state) return slot;
        if (key == EMPTY) return EMPTY;
    }
    return EMPTY;
}

// Clear the table without recording it.
__device__ void clear(Table table, Shared *s) {
    for (u32 i = threadIdx.x; i < SLOTS; i += THREADS) { table.key[i] = EMPTY; table.value[i] = 0; }
    __syncthreads();
    if (threadIdx.x == 0) s->used = 0;
    __syncthreads();
}

// The score below which states are dropped: by the beam and, if more than max_active are left, by bins.
__device__ float cut_off(Table table, Shared *s, float best, float beam, int max_active) {
    u32 tid = threadIdx.x;
    float edge = best - beam;
    if (tid == 0) s->within = 0;
    __syncthreads();
    Slots slots(s);
    u32 mine = 0;
    for (u32 k = tid; k < slots.count; k += THREADS) {
        u32 i = slots[k];
        if (table.key[i] != EMPTY && unordered((u32)(table.value[i] >> 32)) >= edge) ++mine;
    }
    mine = __reduce_add_sync(FULL, mine);
    if ((tid & 31) == 0 && mine) atomicAdd(&s->within, mine);
    __syncthreads();
    if (s->within <= (u32)max_active) return edge;
    for (u32 i = tid; i < BINS; i += THREADS) s->bins[i] = 0;
    __syncthreads();
    float width = (float)BINS / beam;
    for (u32 k = tid; k < slots.count; k += THREADS) {
        u32 i = slots[k];
        if (table.key[i] == EMPTY) continue;
        float score = unordered((u32)(table.value[i] >> 32));
        if (score >= edge) {
            int bin = (int)((best - score) * width);
            atomicAdd(&s->bins[bin < BINS - 1 ? bin : BINS - 1], 1u);
        }
    }
    __syncthreads();
    if (tid < 32) {
        // The first bin that does not fit, at least bin 1.
        u32 sum = 0;
        for (int i = 0; i < BINS / 32; ++i) sum += s->bins[tid * (BINS / 32) + i];
        u32 total = sum;
        for (int d = 1; d < 32; d *= 2) {
            u32 other = __shfl_up_sync(FULL, total, d);
            if (tid >= (u32)d) total += other;
        }
        u32 running = total - sum, cut = BINS;
        for (int i = 0; i < BINS / 32; ++i) {
            running += s->bins[tid * (BINS / 32) + i];
            if (running > (u32)max_active) { cut = tid * (BINS / 32) + i; break; }
        }
        cut = __reduce_min_sync(FULL, cut);
        if (tid == 0) { s->cut_bin = cut < 1 ? 1 : cut; s->floor = 0xffffffffu; }
    }
    __syncthreads();
    // The lowest score in the bins that stay.
    int cut = (int)s->cut_bin;
    u32 lowest = 0xffffffffu;
    for (u32 k = tid; k < slots.count; k += THREADS) {
        u32 i = slots[k];
        if (table.key[i] == EMPTY) continue;
        u32 score = (u32)(table.value[i] >> 32);
        float x = unordered(score);
        if (x < edge) continue;
        int bin = (int)((best - x) * width);
        if ((bin < BINS - 1 ? bin : BINS - 1) < cut && score < lowest) lowest = score;
    }
    lowest = __reduce_min_sync(FULL, lowest);
    if ((tid & 31) == 0) atomicMin(&s->floor, lowest);
    __syncthreads();
    float low = unordered(s->floor);
    __syncthreads();
    return low;
}

// Best of the table, cut-off, record, clear. Returns 0 if there is nothing left, else 1; 2: pool full.
__device__ int settle(const Graph &g, const Batch &b, Record &r, Table table, Shared *s, long long at, u64 *active) {
    u32 tid = threadIdx.x;
    if (tid == 0) { s->best = 0; s->kept = 0; s->best_state = EMPTY; }
    __syncthreads();
    Slots slots(s);
    u32 top = 0;
    for (u32 k = tid; k < slots.count; k += THREADS) {
        u32 i = slots[k];
        if (table.key[i] != EMPTY) top = max(top, (u32)(table.value[i] >> 32));
    }
    top = warp_max(top);
    if ((tid & 31) == 0 && top) atomicMax(&s->best, top);
    __syncthreads();
    if (s->best == 0) {
        if (tid == 0) { s->used = 0; r.base[at] = 0; r.count[at] = 0; r.norm[at] = LOWEST; }
        __syncthreads();
        return 0;
    }
    float best = unordered(s->best);
    float cut = cut_off(table, s, best, b.beam, b.max_active);
    if (g.rising) {
        // A path may fall below the cut-off and rise again by an epsilon: what it came through stays.
        for (;;) {
            __syncthreads();
            if (tid == 0) s->changed = 0;
            __syncthreads();
            for (u32 k = tid; k < slots.count; k += THREADS) {
                u32 i = slots[k];
                u32 key = *(volatile u32 *)&table.key[i];
                if (key == EMPTY) continue;
                u64 value = table.value[i];
                u32 arc = ~(u32)value;
                if (arc == NO_ARC || arc < g.num_emitting) continue;
                if (!(key & FORCED) && unordered((u32)(value >> 32)) < cut) continue;
                u32 from = find_slot(table, g.source[arc]);
                if (from == EMPTY) continue;
                if (unordered((u32)(table.value[from] >> 32)) >= cut) continue;
                if (!(atomicOr(&table.key[from], FORCED) & FORCED)) s->changed = 1;
            }
            __syncthreads();
            if (!s->changed) break;
        }
    }
    // Count, take a place in the pool, write.
    u32 mine = 0;
    for (u32 k = tid; k < slots.count; k += THREADS) {
        u32 i = slots[k];
        u32 key = table.key[i];
        mine += key != EMPTY && ((key & FORCED) || unordered((u32)(table.value[i] >> 32)) >= cut);
    }
    mine = __reduce_add_sync(FULL, mine);
    if ((tid & 31) == 0 && mine) atomicAdd(&s->kept, mine);
    __syncthreads();
    if (tid == 0) {
        u64 base = atomicAdd(r.top, (u64)s->kept);
        s->base_ok = base + s->kept <= r.capacity;
        s->base = base;
        if (s->base_ok) { r.base[at] = (u32)base; r.count[at] = s->kept; r.norm[at] = best; }
        *active += s->kept;
        s->kept = 0;
    }
    __syncthreads();
    if (!s->base_ok) return 2;
    u32 warps = (slots.count + 31) & ~31u;
    for (u32 k = tid; k < warps; k += THREADS) {
        u32 i = k < slots.count ? slots[k] : 0;
        u32 key = k < slots.count ? table.key[i] : EMPTY;
        u64 value = table.value[i];
        bool keep = key != EMPTY && ((key & FORCED) || unordered((u32)(value >> 32)) >= cut);
        u32 votes = __ballot_sync(FULL, keep);
        u32 base = 0;
        if ((tid & 31) == 0 && votes) base = atomicAdd(&s->kept, (u32)__popc(votes));
        base = __shfl_sync(FULL, base, 0);
        if (keep) {
            u64 place = s->base + base + __popc(votes & ((1u << (tid & 31)) - 1));
            u32 state = key & ~FORCED;
            r.state[place] = state;
            r.arc[place] = ~(u32)value;
            r.score[place] = unordered((u32)(value >> 32)) - best;
            if ((u32)(value >> 32) == s->best) atomicMin(&s->best_state, state);
        }
        if (key != EMPTY) { table.key[i] = EMPTY; table.value[i] = 0; }
    }
    __syncthreads();
    if (tid == 0) s->used = 0;
    return 1;
}

// The arcs of one frame from the states recorded at `from`.
__device__ u32 expand(const Graph &g, const Batch &b, const Record &r, Table table, Shared *s, long long from,
                      const float *row, float loud) {
    u32 tid = threadIdx.x, lane = tid & 31, warp = tid >> 5, visits = 0;
    u32 count = r.count[from], base = r.base[from];
    const u32 state_mask = (u32)((1ull << STATE_BITS) - 1);
    for (u32 group = warp * 32; group < count; group += THREADS) {
        u32 i = group + lane;
        u32 begin = 0, degree = 0;
        float score = LOWEST;
        if (__any_sync(FULL, *(volatile u32 *)&s->lost)) break;
        float cut = fmaxf(score_of(*(volatile u32 *)&s->best) - b.beam, score_of(*(volatile u32 *)&s->floor));
        if (i < count) {
            u32 state = r.state[base + i];
            score = r.score[base + i];
            begin = g.row[state];
            degree = g.row[state + 1] - begin;
            // Where no token but the blank can bring this state back within the beam, look at its blanks only.
            if (score - g.least_cost + loud < cut) degree = min(degree, g.most_blanks);
        }
        // Lay the arcs of the warp's 32 states in a row; lane l's begin at `offset`.
        u32 total = degree;
        for (int d = 1; d < 32; d *= 2) {
            u32 other = __shfl_up_sync(FULL, total, d);
            if (lane >= (u32)d) total += other;
        }
        u32 offset = total - degree;
        u32 sum = __shfl_sync(FULL, total, 31);
        u32 some = __ballot_sync(FULL, degree != 0);
        __syncwarp();
        if (degree) {
            u32 rank = __popc(some & ((1u << lane) - 1));
            s->begin[warp][rank] = begin - offset;
            s->place[warp][rank] = offset;
            s->score[warp][rank] = score;
        }
        __syncwarp();
        if (lane == 0) visits += sum;
        u32 owners = __popc(some), started = 0;
        u32 my_place = lane < owners ? s->place[warp][lane] : FULL;
        for (u32 chunk = 0; chunk < sum; chunk += 32) {
            u32 here = my_place - chunk;  // huge if it lies before the chunk
            u32 marks = __reduce_or_sync(FULL, here < 32 ? 1u << here : 0u);
            u32 owner = started + __popc(marks & (FULL >> (31 - lane))) - 1;
            started += __popc(marks);
            u32 top = 0;
            if (chunk + lane < sum) {
                u32 number = s->begin[warp][owner] + chunk + lane;
                uint2 arc = g.arc[number];
                float there = (s->score[warp][owner] + __uint_as_float(arc.y)) + row[arc.x >> STATE_BITS];
                if (there >= cut && there > LOWEST) {
                    u32 at;
                    top = ordered(there);
                    enter(table, s, arc.x & state_mask, ((u64)top << 32) | (u32)~number, &at);
                }
            }
            top = warp_max(top);
            if (top > *(volatile u32 *)&s->best) {
                if (lane == 0) atomicMax(&s->best, top);
                cut = fmaxf(cut, unordered(top) - b.beam);
            }
        }
    }
    __syncthreads();
    return visits;
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) search(Graph g, Batch b, Record r, int *cursor, u32 *keys, u64 *values) {
    extern __shared__ u64 space[];
    __shared__ Shared s;
    u32 tid = threadIdx.x;
    Table table;
    float *row;
#if SHARED_TABLE
    table.value = space;
    table.key = (u32 *)(space + SLOTS);
    row = (float *)(table.key + SLOTS);
#else
    table.value = values + (u64)blockIdx.x * SLOTS;
    table.key = keys + (u64)blockIdx.x * SLOTS;
    row = (float *)space;
#endif
    clear(table, &s);
    for (;;) {
        __syncthreads();
        if (tid == 0) s.next = (u32)atomicAdd(cursor, 1);
        __syncthreads();
        if (s.next >= (u32)b.utterances) return;
        int u = b.order[s.next];
        const Input *input = b.log_probs + b.row[u] * b.stride_n - b.skip[u] * b.stride_t;
        int frames = b.length[u], t = r.frame[u];
        long long first = b.first[u];
        u64 visits = 0, active = 0;
        int restarts = 0;
        if (r.status[u] == BAD_INPUT || r.status[u] == DEAD) continue;
        // NaN or +inf anywhere fails the utterance, and this one alone.
        if (tid == 0) s.bad = 0x7fffffffu;
        __syncthreads();
        for (int f = (t < 0 ? 0 : t) + (int)(tid / 32); f < frames; f += WARPS)
            for (int c = tid & 31; c < b.tokens; c += 32) {
                float x = reading(input + f * b.stride_t + c * b.stride_c);
                if (!(x < __int_as_float(0x7f800000))) atomicMin(&s.bad, (u32)f);
            }
        __syncthreads();
        if (s.bad != 0x7fffffffu) {
            if (tid == 0) { r.status[u] = BAD_INPUT; r.frame[u] = (int)s.bad; }
            continue;
        }
        int status = RUNNING;
        if (t < 0) {
            if (tid == 0) {
                u32 at;
                s.lost = 0;
                enter(table, &s, g.start, ((u64)ordered(0.0f) << 32) | (u32)~NO_ARC, &at);
            }
            __syncthreads();
            visits += follow_epsilons(g, table, &s, -b.beam);
            if (s.lost) status = TABLE_FULL;
            else {
                int how = settle(g, b, r, table, &s, first, &active);
                active = 0;
                status = how == 2 ? POOL_FULL : RUNNING;
            }
            if (status == RUNNING) t = 0;
        } else {
            // Carried over: which state is the best one?
            if (tid == 0) s.best_state = EMPTY;
            __syncthreads();
            for (u32 i = tid; i < r.count[first + t]; i += THREADS)
                if (r.score[r.base[first + t] + i] == 0.0f) atomicMin(&s.best_state, r.state[r.base[first + t] + i]);
            __syncthreads();
        }
        while (status == RUNNING && t < frames) {
            if (tid == 0) { s.best = 0; s.floor = 0; s.lost = 0; s.changed = 0; }
            __syncthreads();
            u32 loud = 0;
            for (int c = tid; c < b.tokens; c += THREADS) {
                float x = reading(input + t * b.stride_t + c * b.stride_c) * b.scale;
                row[c] = x;
                if (c) loud = max(loud, ordered(x));
            }
            loud = warp_max(loud);
            if ((tid & 31) == 0) atomicMax(&s.changed, loud);
            __syncthreads();
            float loudest = s.changed ? unordered(s.changed) : LOWEST;
            for (;;) {
                // What the best state leads to is a first bound on the best score.
                u32 from = s.best_state, top = 0;
                if (from != EMPTY)
                    for (u32 a = g.row[from] + tid; a < g.row[from + 1]; a += THREADS) {
                        uint2 arc = g.arc[a];
                        float x = (0.0f + __uint_as_float(arc.y)) + row[arc.x >> STATE_BITS];
                        if (x > LOWEST) top = max(top, ordered(x));
                    }
                top = warp_max(top);
                if ((tid & 31) == 0 && top) atomicMax(&s.best, top);
                __syncthreads();
                visits += expand(g, b, r, table, &s, first + t, row, loudest);
                float floor = fmaxf(score_of(s.best) - b.beam, score_of(s.floor));
                if (s.best != 0 && !s.lost) visits += follow_epsilons(g, table, &s, floor);
                __syncthreads();
                if (!s.lost) break;
                // Too many states for the table: those it holds tell a cut-off that is safe (the bin that does
                // not fit whole lies above it), and the frame is done again with that.
                u32 before = s.floor;
                __syncthreads();
                if (tid == 0) s.best = 0;
                __syncthreads();
                u32 high = 0;
                for (u32 i = tid; i < SLOTS; i += THREADS)
                    if (table.key[i] != EMPTY) high = max(high, (u32)(table.value[i] >> 32));
                high = warp_max(high);
                if ((tid & 31) == 0) atomicMax(&s.best, high);
                __syncthreads();
                float best = unordered(s.best);
                float cut = cut_off(table, &s, best, b.beam, b.max_active);
                if (s.within > (u32)b.max_active)
                    cut = best - (float)(s.cut_bin + 1) * (b.beam / BINS) * 1.0001f;
                cut = fmaxf(cut, best - b.beam);
                bool hopeless = ordered(cut) <= before;
                __syncthreads();
                clear(table, &s);
                if (tid == 0) { s.best = 0; s.floor = ordered(cut); s.lost = 0; }
                ++restarts;
                __syncthreads();
                if (hopeless) { status = TABLE_FULL; break; }
            }
            if (status != RUNNING) break;
            int how = settle(g, b, r, table, &s, first + t + 1, &active);
            if (how == 2) { status = POOL_FULL; break; }
            ++t;
            if (how == 0) { status = DEAD; break; }
        }
        __syncthreads();
        if (status == POOL_FULL || status == TABLE_FULL) clear(table, &s);
        if (status == RUNNING) {
            status = DONE;
            // The best end: in a final state if there is one.
            if (tid == 0) s.end = 0;
            __syncthreads();
            u64 best = 0;
            for (int pass = 0; pass < 2; ++pass) {
                for (u32 i = tid; i < r.count[first + t]; i += THREADS) {
                    u32 state = r.state[r.base[first + t] + i];
                    float x = r.score[r.base[first + t] + i] + (pass ? 0.0f : g.final[state]);
                    if (x > LOWEST) best = max64(best, ((u64)ordered(x) << 32) | (u32)~state);
                }
                if (best) atomicMax(&s.end, best);
                __syncthreads();
                if (s.end != 0) { if (tid == 0) r.best[u * 2 + pass] = s.end; break; }
                __syncthreads();
            }
        }
        if (tid == 0) { r.status[u] = status; r.frame[u] = t; r.restarts[u] += restarts; r.active[u] += active; }
        if (visits) atomicAdd(&r.visited[u], visits);
    }
}

// The arcs of each utterance's best path, last first: (U, width) padded, and how many.
extern "C" __global__ void trace(Graph g, Batch b, Record r, u32 *path, const long long *path_first, const int *room, int *length) {
    __shared__ u32 arc;
    int u = blockIdx.x;
    if (r.status[u] != DONE) { if (threadIdx.x == 0) length[u] = 0; return; }
    u64 end = r.best[u * 2] ? r.best[u * 2] : r.best[u * 2 + 1];
    u32 state = ~(u32)end;
    int t = r.frame[u], n = 0;
    for (;;) {
        u32 count = r.count[b.first[u] + t], base = r.base[b.first[u] + t];
        for (u32 i = threadIdx.x; i < count; i += blockDim.x)
            if (r.state[base + i] == state) arc = r.arc[base + i];
        __syncthreads();
        u32 last = arc;
        __syncthreads();
        if (last == NO_ARC) break;
        if (threadIdx.x == 0 && n < room[u]) path[path_first[u] + n] = last;
        ++n;
        state = g.source[last];
        t -= last < g.num_emitting;
    }
    if (threadIdx.x == 0) length[u] = n;
}

// ---------------------------------------------------------------------------------------------------
// Lattices

struct Lattice {
    // Nodes: what is alive (within lattice_beam of the best path) of each frame.
    u32 *state, *entry, *entries, *arc_first, *arcs;
    float *alpha, *beta_sum;
    // The best label sequences from a node to the end: last arc first, linked.
    u32 *by, *next;
    float *score;
    u64 *hash;
    // Arcs: number in the graph, nodes, posterior.
    u32 *arc, *src, *dst;
    float *posterior;
    u64 *top;              // nodes, entries, arcs, labels in use
    u64 room[4];
    u32 *node_base, *node_count; // by frame
    u32 *best;             // (U, nbest) entries
    int *found;            // (U) how many; -1: no room, -2: table full
    float *sum;            // by node: forward sums
    // Labels that come out on the arcs.
    u32 *label_at, *label_frame, *label;
    float *label_posterior;
    float beam;
    int nbest, keep_arcs;
};

struct Alive {
    u32 *key, *beta, *node;
    float *alpha;
};

__device__ __forceinline__ u32 alive_find(Alive a, u32 state) {
    u32 slot = hash_of(state, LOG_ALIVE);
    for (u32 tried = 0; tried < ALIVE; ++tried, slot = (slot + 1) & (ALIVE - 1)) {
        u32 key = *(volatile u32 *)&a.key[slot];
        if (key == state) return slot;
        if (key == EMPTY) return EMPTY;
    }
    return EMPTY;
}

// Make a state alive with a score to the end; true if that is better than what was known.
__device__ __forceinline__ bool alive_enter(Alive a, u32 state, float alpha, float beta, u32 *full) {
    u32 slot = hash_of(state, LOG_ALIVE);
    for (u32 tried = 0; tried < ALIVE / 2; ++tried, slot = (slot + 1) & (ALIVE - 1)) {
        u32 key = *(volatile u32 *)&a.key[slot];
        if (key == EMPTY) {
            key = atomicCAS(&a.key[slot], EMPTY, state);
            if (key == EMPTY) key = state;
        }
        if (key == state) {
            a.alpha[slot] = alpha;
            u32 mine = ordered(beta);
            if (*(volatile u32 *)&a.beta[slot] >= mine) return false;
            return atomicMax(&a.beta[slot], mine) < mine;
        }
    }
    *full = 1;
    return false;
}

__device__ __forceinline__ float log_add(float a, float b) {
    float high = fmaxf(a, b), low = fminf(a, b);
    return high == LOWEST ? LOWEST : high + log1pf(expf(low - high));
}

__device__ __forceinline__ u64 with_label(u64 hash, u32 label) {
    u64 x = (hash ^ label) * 0x9e3779b97f4a7c15ull;
    return x ^ (x >> 29) ^ 0x5851f42d4c957f2dull;
}

// A warp's list of the best label sequences so far, one a lane, best first.
struct List {
    float score;
    u64 hash;
    u32 by, next, size;
};

__device__ __forceinline__ void offer(List &l, float score, u64 hash, u32 by, u32 next, u32 most) {
    u32 lane = threadIdx.x & 31;
    u32 same = __ballot_sync(FULL, lane < l.size && l.hash == hash);
    if (same) {
        u32 at = __ffs(same) - 1;
        if (__shfl_sync(FULL, l.score, at) >= score) return;
        // Taken out; what was below it moves up.
        float s = __shfl_down_sync(FULL, l.score, 1);
        u64 h = __shfl_down_sync(FULL, l.hash, 1);
        u32 y = __shfl_down_sync(FULL, l.by, 1), n = __shfl_down_sync(FULL, l.next, 1);
        if (lane >= at) { l.score = s; l.hash = h; l.by = y; l.next = n; }
        --l.size;
    }
    u32 rank = __popc(__ballot_sync(FULL, lane < l.size && l.score >= score));
    if (rank >= most) return;
    float s = __shfl_up_sync(FULL, l.score, 1);
    u64 h = __shfl_up_sync(FULL, l.hash, 1);
    u32 y = __shfl_up_sync(FULL, l.by, 1), n = __shfl_up_sync(FULL, l.next, 1);
    if (lane > rank) { l.score = s; l.hash = h; l.by = y; l.next = n; }
    if (lane == rank) { l.score = score; l.hash = hash; l.by = by; l.next = next; }
    l.size = min(l.size + 1, most);
}

// Take over what can follow an arc into node `dst`: all of it that is within the beam.
__device__ __forceinline__ void follow(const Lattice &x, List &l, u32 dst, float weight, u32 arc, u32 label, float alpha) {
    u32 lane = threadIdx.x & 31;
    u32 base = x.entry[dst], count = x.entries[dst];
    float score = LOWEST;
    u64 hash = 0;
    if (lane < count) { score = weight + x.score[base + lane]; hash = x.hash[base + lane]; }
    for (u32 i = 0; i < count; ++i) {
        float s = __shfl_sync(FULL, score, i);
        if (alpha + s < -x.beam) break;
        u64 h = __shfl_sync(FULL, hash, i);
        if (l.size == (u32)x.nbest && s <= __shfl_sync(FULL, l.score, x.nbest - 1)) break;
        offer(l, s, label ? with_label(h, label) : h, arc, base + i, x.nbest);
    }
}

// The arcs of one node that stay in the lattice. `pass` 0 gathers sequences and counts, 1 writes.
__device__ __forceinline__ u32 leave(const Graph &g, const Lattice &x, const Alive &here, const Alive &after, bool last,
                                     const float *row, float norm, u32 state, float alpha, List &l, float &sum,
                                     bool write, u64 place, u32 node) {
    u32 lane = threadIdx.x & 31, written = 0;
    for (int silent = 0; silent < 2; ++silent) {
        u32 begin = 0, end = 0;
        if (silent) {
            if (state >= g.first_eps) { begin = g.eps_row[state - g.first_eps]; end = g.eps_row[state - g.first_eps + 1]; }
        } else if (!last) { begin = g.row[state]; end = g.row[state + 1]; }
        for (u32 chunk = begin; chunk < end; chunk += 32) {
            u32 at = chunk + lane, slot = EMPTY, dst = 0, number = at;
            float weight = 0.0f;
            if (at < end) {
                uint2 arc = silent ? g.eps[at] : g.arc[at];
                u32 target = silent ? arc.x : arc.x & (u32)((1ull << STATE_BITS) - 1);
                weight = __uint_as_float(arc.y);
                if (!silent) weight = (weight + row[arc.x >> STATE_BITS]) - norm;
                else number += g.num_emitting;
                slot = alive_find(silent ? here : after, target);
                if (slot != EMPTY) {
                    float rest = weight + unordered((silent ? here : after).beta[slot]);
                    if (!(alpha + rest >= -x.beam)) slot = EMPTY;
                    else dst = (silent ? here : after).node[slot];
                }
            }
            u32 hits = __ballot_sync(FULL, slot != EMPTY);
            if (write) {
                if (slot != EMPTY) {
                    u64 to = place + written + __popc(hits & ((1u << lane) - 1));
                    x.arc[to] = number; x.src[to] = node; x.dst[to] = dst;
                }
                written += __popc(hits);
                continue;
            }
            u32 label = slot != EMPTY ? g.olabel[number] : 0;
            float through = slot != EMPTY ? weight + x.beta_sum[dst] : LOWEST;
            written += __popc(hits);
            while (hits) {
                int from = __ffs(hits) - 1;
                hits &= hits - 1;
                sum = log_add(sum, __shfl_sync(FULL, through, from));
                follow(x, l, __shfl_sync(FULL, dst, from), __shfl_sync(FULL, weight, from),
                       __shfl_sync(FULL, number, from), __shfl_sync(FULL, label, from), alpha);
            }
        }
    }
    return written;
}

struct Scan {
    u32 begin[WARPS][32], place[WARPS][32], state[WARPS][32];
    float score[WARPS][32];
    u32 full, changed, count, level, next, ok, high;
    u64 base;
    u32 list[ALIVE];
};

// Which states of frame t are alive by the arcs to frame t + 1.
__device__ void reach_back(const Graph &g, const Lattice &x, const Record &r, Alive here, Alive after, Scan *s, long long from,
                           const float *row, float norm, float high, float loud) {
    u32 tid = threadIdx.x, lane = tid & 31, warp = tid >> 5;
    u32 count = r.count[from], base = r.base[from];
    for (u32 group = warp * 32; group < count; group += THREADS) {
        u32 i = group + lane, begin = 0, degree = 0, state = 0;
        float alpha = LOWEST;
        if (i < count) {
            state = r.state[base + i];
            alpha = r.score[base + i];
            begin = g.row[state];
            degree = g.row[state + 1] - begin;
            if (alpha - g.least_cost + loud - norm + high < -x.beam - 1e-3f) degree = min(degree, g.most_blanks);
            if (alpha - g.least_cost + fmaxf(loud, row[0]) - norm + high < -x.beam - 1e-3f) degree = 0;
        }
        u32 total = degree;
        for (int d = 1; d < 32; d *= 2) {
            u32 other = __shfl_up_sync(FULL, total, d);
            if (lane >= (u32)d) total += other;
        }
        u32 offset = total - degree;
        u32 sum = __shfl_sync(FULL, total, 31);
        u32 some = __ballot_sync(FULL, degree != 0);
        __syncwarp();
        if (degree) {
            u32 rank = __popc(some & ((1u << lane) - 1));
            s->begin[warp][rank] = begin - offset;
            s->place[warp][rank] = offset;
            s->state[warp][rank] = state;
            s->score[warp][rank] = alpha;
        }
        __syncwarp();
        u32 owners = __popc(some), started = 0;
        u32 my_place = lane < owners ? s->place[warp][lane] : FULL;
        for (u32 chunk = 0; chunk < sum; chunk += 32) {
            u32 here_ = my_place - chunk;
            u32 marks = __reduce_or_sync(FULL, here_ < 32 ? 1u << here_ : 0u);
            u32 owner = started + __popc(marks & (FULL >> (31 - lane))) - 1;
            started += __popc(marks);
            if (chunk + lane < sum) {
                uint2 arc = g.arc[s->begin[warp][owner] + chunk + lane];
                float weight = (__uint_as_float(arc.y) + row[arc.x >> STATE_BITS]) - norm;
                float mine = s->score[warp][owner];
                if (mine + weight + high >= -x.beam - 1e-3f) {
                    u32 slot = alive_find(after, arc.x & (u32)((1ull << STATE_BITS) - 1));
                    if (slot != EMPTY) {
                        float rest = weight + unordered(after.beta[slot]);
                        if (mine + rest >= -x.beam) alive_enter(here, s->state[warp][owner], mine, rest, &s->full);
                    }
                }
            }
        }
    }
    __syncthreads();
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) rescan(Graph g, Batch b, Record r, Lattice x, int *cursor) {
    extern __shared__ u64 space[];
    __shared__ Scan s;
    Alive table[2];
    u32 *room = (u32 *)space;
    for (int i = 0; i < 2; ++i) {
        table[i].key = room; table[i].beta = room + ALIVE; table[i].node = room + 2 * ALIVE;
        table[i].alpha = (float *)(room + 3 * ALIVE);
        room += 4 * ALIVE;
    }
    float *row = (float *)room;
    u32 tid = threadIdx.x, lane = tid & 31, warp = tid >> 5;
    for (;;) {
        __syncthreads();
        if (tid == 0) s.next = (u32)atomicAdd(cursor, 1);
        __syncthreads();
        if (s.next >= (u32)b.utterances) return;
        int u = b.order[s.next];
        if (r.status[u] != DONE || r.best[u * 2] == 0) { if (tid == 0) x.found[u] = 0; continue; }
        const Input *input = b.log_probs + b.row[u] * b.stride_n - b.skip[u] * b.stride_t;
        long long first = b.first[u];
        int frames = r.frame[u];
        float best = unordered((u32)(r.best[u * 2] >> 32));
        if (tid == 0) s.full = 0;
        int failed = 0;
        float high = 0.0f;
        for (int t = frames; t >= 0; --t) {
            Alive here = table[t & 1], after = table[(t + 1) & 1];
            bool last = t == frames;
            u32 count = r.count[first + t], base = r.base[first + t];
            for (u32 i = tid; i < ALIVE; i += THREADS) { here.key[i] = EMPTY; here.beta[i] = 0; }
            if (tid == 0) { s.count = 0; s.level = 0; s.high = 0; }
            float norm = 0.0f;
            if (last) {
                __syncthreads();
                for (u32 i = tid; i < count; i += THREADS) {
                    u32 state = r.state[base + i];
                    float rest = g.final[state] - best, alpha = r.score[base + i];
                    if (alpha + rest >= -x.beam) alive_enter(here, state, alpha, rest, &s.full);
                }
                __syncthreads();
            } else {
                u32 loud = 0;
                for (int c = tid; c < b.tokens; c += THREADS) {
                    row[c] = reading(input + t * b.stride_t + c * b.stride_c) * b.scale;
                    if (c) loud = max(loud, ordered(row[c]));
                }
                loud = warp_max(loud);
                __syncthreads();
                if (lane == 0) atomicMax(&s.high, loud);
                __syncthreads();
                norm = r.norm[first + t + 1];
                float loudest = score_of(s.high);
                __syncthreads();
                if (tid == 0) s.high = 0;
                reach_back(g, x, r, here, after, &s, first + t, row, norm, high, loudest);
            }
            for (;;) {
                __syncthreads();
                if (tid == 0) s.changed = 0;
                __syncthreads();
                for (u32 i = tid; i < count; i += THREADS) {
                    u32 state = r.state[base + i];
                    if (state < g.first_eps) continue;
                    float alpha = r.score[base + i];
                    u32 end = g.eps_row[state - g.first_eps + 1];
                    for (u32 e = g.eps_row[state - g.first_eps]; e < end; ++e) {
                        uint2 arc = g.eps[e];
                        u32 slot = alive_find(here, arc.x);
                        if (slot == EMPTY) continue;
                        float rest = __uint_as_float(arc.y) + score_of(*(volatile u32 *)&here.beta[slot]);
                        if (alpha + rest >= -x.beam && alive_enter(here, state, alpha, rest, &s.full)) s.changed = 1;
                    }
                }
                __syncthreads();
                if (!s.changed) break;
            }
            // Number what is alive.
            u32 top = 0;
            for (u32 i = tid; i < ALIVE; i += THREADS) {
                u32 key = here.key[i];
                u32 votes = __ballot_sync(FULL, key != EMPTY);
                u32 at = 0;
                if (lane == 0 && votes) at = atomicAdd(&s.count, (u32)__popc(votes));
                at = __shfl_sync(FULL, at, 0);
                if (key != EMPTY) {
                    at += __popc(votes & ((1u << lane) - 1));
                    s.list[at] = i;
                    here.node[i] = at;
                    top = max(top, here.beta[i]);
                    if (key >= g.first_eps) atomicMax(&s.level, (u32)g.level[key]);
                }
            }
            top = warp_max(top);
            if (lane == 0) atomicMax(&s.high, top);
            __syncthreads();
            if (tid == 0) {
                s.base = atomicAdd(&x.top[0], (u64)s.count);
                s.ok = s.base + s.count <= x.room[0];
                x.node_base[first + t] = (u32)s.base;
                x.node_count[first + t] = s.count;
            }
            __syncthreads();
            high = score_of(s.high);
            if (!s.ok || s.full) { failed = s.full ? -2 : -1; break; }
            u32 total = s.count, deepest = s.level, node_base = (u32)s.base;
            for (u32 i = tid; i < total; i += THREADS) {
                u32 slot = s.list[i];
                here.node[slot] += node_base;
                x.state[node_base + i] = here.key[slot];
                x.alpha[node_base + i] = here.alpha[slot];
            }
            __syncthreads();
            for (u32 level = 0; level <= deepest; ++level) {
                for (u32 i = warp; i < total; i += WARPS) {
                    u32 slot = s.list[i], state = here.key[slot];
                    if ((state >= g.first_eps ? (u32)g.level[state] : 0u) != level) continue;
                    float alpha = here.alpha[slot], sum = LOWEST;
                    List l;
                    l.size = 0; l.score = LOWEST; l.hash = 0; l.by = l.next = NO_ARC;
                    if (last && g.final[state] > LOWEST) {
                        float rest = g.final[state] - best;
                        if (alpha + rest >= -x.beam) { sum = rest; offer(l, rest, 1, NO_ARC, NO_ARC, x.nbest); }
                    }
                    u32 arcs = leave(g, x, here, after, last, row, norm, state, alpha, l, sum, false, 0, 0);
                    u64 entry = 0, place = 0;
                    if (lane == 0) {
                        entry = atomicAdd(&x.top[1], (u64)l.size);
                        if (x.keep_arcs) place = atomicAdd(&x.top[2], (u64)arcs);
                        if (entry + l.size > x.room[1] || (x.keep_arcs && place + arcs > x.room[2])) s.ok = 0;
                    }
                    entry = __shfl_sync(FULL, entry, 0);
                    place = __shfl_sync(FULL, place, 0);
                    bool fits = entry + l.size <= x.room[1] && (!x.keep_arcs || place + arcs <= x.room[2]);
                    u32 node = node_base + i;
                    if (lane == 0) {
                        x.entry[node] = (u32)entry;
                        x.entries[node] = fits ? l.size : 0;
                        x.beta_sum[node] = sum;
                        x.arc_first[node] = (u32)place;
                        x.arcs[node] = fits ? arcs : 0;
                    }
                    if (fits) {
                        if (lane < l.size) {
                            x.by[entry + lane] = l.by; x.next[entry + lane] = l.next;
                            x.score[entry + lane] = l.score; x.hash[entry + lane] = l.hash;
                        }
                        if (x.keep_arcs)
                            leave(g, x, here, after, last, row, norm, state, alpha, l, sum, true, place, node);
                    }
                }
                __syncthreads();
            }
            if (!s.ok) { failed = -1; break; }
        }
        __syncthreads();
        if (failed) { if (tid == 0) x.found[u] = failed; continue; }
        if (tid == 0) {
            u32 slot = alive_find(table[0], g.start);
            int found = 0;
            if (slot != EMPTY) {
                u32 node = table[0].node[slot];
                found = (int)x.entries[node];
                for (int i = 0; i < found; ++i) x.best[(long long)u * x.nbest + i] = x.entry[node] + i;
            }
            x.found[u] = found;
        }
    }
}

// The arcs of the n best paths, in order: one thread each.
extern "C" __global__ void spell(Batch b, Lattice x, u32 *path, const long long *path_first, const int *room, int *length) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= b.utterances * x.nbest) return;
    int u = i / x.nbest;
    int n = 0;
    if (i % x.nbest < x.found[u]) {
        u32 entry = x.best[i];
        while (x.by[entry] != NO_ARC) {
            if (n < room[u]) path[path_first[u] * x.nbest + (long long)(i % x.nbest) * room[u] + n] = x.by[entry];
            ++n;
            entry = x.next[entry];
        }
    }
    length[i] = n;
}

__device__ float block_reduce(float *space, float mine, bool largest) {
    for (int d = 16; d; d /= 2) {
        float other = __shfl_xor_sync(FULL, mine, d);
        mine = largest ? fmaxf(mine, other) : mine + other;
    }
    __syncthreads();
    if ((threadIdx.x & 31) == 0) space[threadIdx.x / 32] = mine;
    __syncthreads();
    mine = space[0];
    for (int i = 1; i < WARPS; ++i) mine = largest ? fmaxf(mine, space[i]) : mine + space[i];
    return mine;
}

// Posteriors of a lattice's arcs, normalised frame by frame: every path has one emitting arc in each.
extern "C" __global__ void __launch_bounds__(THREADS) share(Graph g, Batch b, Record r, Lattice x) {
    __shared__ float space[WARPS];
    int u = blockIdx.x;
    if (x.found[u] <= 0) return;
    u32 tid = threadIdx.x;
    const Input *input = b.log_probs + b.row[u] * b.stride_n - b.skip[u] * b.stride_t;
    long long first = b.first[u];
    int frames = r.frame[u];
    float best = unordered((u32)(r.best[u * 2] >> 32));
    for (int t = 0; t <= frames; ++t) {
        u32 base = x.node_base[first + t], count = x.node_count[first + t];
        for (u32 i = tid; i < count; i += THREADS) {
            if (t == 0) x.sum[base + i] = x.state[base + i] == g.start ? 1.0f : 0.0f;
        }
        u32 level = 0;
        __syncthreads();
        for (u32 i = tid; i < count; i += THREADS)
            if (x.state[base + i] >= g.first_eps) level = max(level, (u32)g.level[x.state[base + i]]);
        int deepest = (int)block_reduce(space, (float)level, true);
        for (int l = deepest; l > 0; --l) {
            for (u32 i = tid; i < count; i += THREADS) {
                u32 node = base + i, state = x.state[node];
                if (state < g.first_eps || g.level[state] != l) continue;
                float sum = *(volatile float *)&x.sum[node];
                for (u32 a = x.arc_first[node]; a < x.arc_first[node] + x.arcs[node]; ++a)
                    if (x.arc[a] >= g.num_emitting)
                        atomicAdd(&x.sum[x.dst[a]], sum * expf(__uint_as_float(g.eps[x.arc[a] - g.num_emitting].y)));
            }
            __syncthreads();
        }
        // The largest score to the end keeps exponentials in range.
        float largest = LOWEST;
        for (u32 i = tid; i < count; i += THREADS) largest = fmaxf(largest, x.beta_sum[base + i]);
        largest = block_reduce(space, largest, true);
        u32 then = 0, there = 0;
        float norm = 0.0f;
        if (t < frames) {
            then = x.node_base[first + t + 1]; there = x.node_count[first + t + 1];
            norm = r.norm[first + t + 1];
            for (u32 i = tid; i < there; i += THREADS) x.sum[then + i] = 0.0f;
        }
        __syncthreads();
        float total = 0.0f;
        for (u32 i = tid; i < count; i += THREADS) {
            u32 node = base + i;
            float sum = *(volatile float *)&x.sum[node];
            if (t == frames && g.final[x.state[node]] > LOWEST)
                total += sum * expf(g.final[x.state[node]] - best - largest);
            for (u32 a = x.arc_first[node]; a < x.arc_first[node] + x.arcs[node]; ++a) {
                u32 number = x.arc[a];
                float weight;
                if (number < g.num_emitting) {
                    uint2 arc = g.arc[number];
                    weight = (__uint_as_float(arc.y) + reading(input + t * b.stride_t + (long long)(arc.x >> STATE_BITS) * b.stride_c) * b.scale) - norm;
                    atomicAdd(&x.sum[x.dst[a]], sum * expf(weight));
                } else weight = __uint_as_float(g.eps[number - g.num_emitting].y);
                float p = sum * expf(weight + x.beta_sum[x.dst[a]] - largest);
                x.posterior[a] = p;
                if (number < g.num_emitting) total += p;
            }
        }
        total = block_reduce(space, total, false);
        for (u32 i = tid; i < count; i += THREADS) {
            u32 node = base + i;
            for (u32 a = x.arc_first[node]; a < x.arc_first[node] + x.arcs[node]; ++a) {
                float p = fminf(1.0f, x.posterior[a] / total);
                x.posterior[a] = p;
                u32 label = g.olabel[x.arc[a]];
                if (label && p > 1e-6f) {
                    u64 place = atomicAdd(&x.top[3], 1ull);
                    if (place < x.room[3]) {
                        x.label_at[place] = u; x.label_frame[place] = t; x.label[place] = label; x.label_posterior[place] = p;
                    }
                }
            }
        }
        // Forward sums stay in range, too.
        float most = 0.0f;
        for (u32 i = tid; i < there; i += THREADS) most = fmaxf(most, *(volatile float *)&x.sum[then + i]);
        most = block_reduce(space, most, true);
        if (most > 0.0f)
            for (u32 i = tid; i < there; i += THREADS) x.sum[then + i] /= most;
        __syncthreads();
    }
}
