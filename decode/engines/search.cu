// Beam search on a GPU: an utterance is one block's work from its first frame to its last.
//
// `search` passes tokens frame by frame and reads the best path; the meaning is that of reference.py.
// Compiled at run time after common.cuh, with SLOTS (of the table of a frame's states), LISTED (how many of them
// may be taken) and SHARED_TABLE (whether it is in shared memory) besides.
//
// A frame has two barriers, or four where max_active cuts. Between them warps work by themselves: 32 states a
// warp, their arcs laid in a row, a lane an arc; what passes waits in the warp's queue until 32 of it
// enter the table at once, and a state that got a better score sends it on along its epsilons at once.

#define BINS 512
#define QUEUE 96
#define TOPS 32
// States so near to the best one, and how many arcs of each, are looked at for a first bound on the next frame.
#define NEAR 2.0f
#define LOOKS 8
// How much further down than the last frame's cut by max_active this one is searched at first.
#ifndef REACH_MORE
#define REACH_MORE 0.75f
#define REACH_TIMES 1.15f
#endif

struct Waiting {
    u64 value[QUEUE];
    u32 state[QUEUE];
    Pieces pieces, chains;
};

// What a block knows of the states of one frame.
struct Front {
    u32 best;              // ordered
    u32 used;              // slots taken
    u32 kept;
    u32 lost;              // the table is full
    u32 group;             // groups of states handed out beyond the first of each warp
    u32 tops;              // states near the best one, the first TOPS of them here: with their scores
    uint2 top[TOPS];

    __device__ __forceinline__ void forget() { best = used = kept = lost = group = tops = 0; }
    __device__ __forceinline__ void note(u32 state, float score) {
        if (score < -NEAR) return;
        u32 place = atomicAdd(&tops, 1u);
        if (place < TOPS) top[place] = make_uint2(state, __float_as_uint(score));
    }
};

#if SHARED_TABLE
typedef u16 Slot;
#else
typedef u32 Slot;
#endif

// The table of one frame's states: key, then ordered score | ~arc; and the slots taken.
struct Table {
    u32 *key;
    u64 *value;
    Slot *list;
};

struct Shared {
    Front front[2];
    u32 floor;             // ordered: the cut-off raised after the table ran full
    u32 next, cut_bin, base_ok;
    u64 end, base;
    u32 left;
    uint2 found[2];
    u32 bins[BINS];
    Waiting warp[WARPS];
};
static_assert(sizeof(Shared) <= SHARED_FIXED + SHARED_A_WARP * WARPS, "cuda.py reserves too little");

__device__ __forceinline__ u32 slot_of(u32 state) { return __umulhi(state * 2654435769u, SLOTS); }

// Bring a path into a state, each of a warp's lanes with `mine` one; true if it is the best so far (also when it
// comes again, as it does when a frame is searched with a longer reach).
__device__ __forceinline__ bool enter(Table table, Front *f, bool mine, u32 state, u64 value) {
    u32 slot = slot_of(state);
    bool fresh = false;
    u32 left = mine ? SLOTS : 0;
    while (left) {
        u32 key = *(volatile u32 *)&table.key[slot];
        if (key == EMPTY) {
            key = atomicCAS(&table.key[slot], EMPTY, state);
            fresh = key == EMPTY;
            if (fresh) break;
        }
        if (key == state) break;
        slot = slot + 1 == SLOTS ? 0 : slot + 1;
        --left;
    }
    bool raised = false;
    if (mine && left) {
        u64 there = *(volatile u64 *)&table.value[slot];
        raised = there == value || (there < value && atomicMax(&table.value[slot], value) < value);
    }
    u32 votes = __ballot_sync(FULL, fresh), place = 0;
    if (votes) {
        if ((threadIdx.x & 31) == 0) place = atomicAdd(&f->used, (u32)__popc(votes));
        place = __shfl_sync(FULL, place, 0) + lanes_before(votes);
        if (fresh && place < LISTED) table.list[place] = (Slot)slot;
    }
    if ((mine && !left) || (fresh && place >= LISTED)) atomicOr(&f->lost, 1u);
    return raised;
}

// Let the last 32 of a warp's queue (or all, if there are fewer) into the table, and on along epsilons.
// The scores of epsilons are at most 0, so what they lead to lies no higher. Returns the epsilons visited.
__device__ __forceinline__ u32 take(const Graph &g, Table table, Front *f, Waiting *w, u32 queued, float cut) {
    u32 lane = threadIdx.x & 31;
    __syncwarp();
    u32 first = queued > 32 ? queued - 32 : 0;
    bool mine = first + lane < queued;
    u32 state = mine ? w->state[first + lane] : 0;
    u64 value = mine ? w->value[first + lane] : 0;
    float score = score_in(value);
    __syncwarp();
    if (__any_sync(FULL, *(volatile u32 *)&f->lost)) return 0;
    bool raised = enter(table, f, mine && score >= cut, state, value);
    u32 begin = 0, degree = 0;
    if (raised && state >= g.first_eps) {
        begin = g.closure_row[state - g.first_eps];
        degree = g.closure_row[state - g.first_eps + 1] - begin;
    }
    if (!__any_sync(FULL, degree)) return 0;
    u32 sum = w->chains.lay(begin, degree, __float_as_uint(score));
    Walk walk(w->chains);
    for (u32 chunk = 0; chunk < sum; chunk += 32) {
        u32 at = chunk + lane, owner = walk.owner(chunk);
        uint2 piece = w->chains.piece[at < sum ? owner : 0];
        uint4 chain = make_uint4(0, 0, 0, 0);
        if (at < sum) chain = g.closure[piece.x + at];
        float there = __uint_as_float(piece.y) + __uint_as_float(chain.y);
        enter(table, f, at < sum && there >= cut && there > LOWEST, chain.x, valued(there, chain.z));
    }
    __syncwarp();
    return lane == 0 ? sum : 0;
}

// Clear the table without recording it.
__device__ void clear(Table table, Front *f) {
    __syncthreads();
    for (u32 i = threadIdx.x; i < SLOTS; i += THREADS) { table.key[i] = EMPTY; table.value[i] = 0; }
    if (threadIdx.x == 0) { f->used = 0; f->lost = 0; }
    __syncthreads();
}

__device__ __forceinline__ int bin_of(float best, float score, float beam) {
    int bin = (int)((best - score) * ((float)BINS / beam));
    return bin < BINS - 1 ? bin : BINS - 1;
}

// The first bin of [best - beam, best] that does not fit into max_active, at least 1; BINS if all fit.
__device__ int first_bin_out(const Batch &b, Table table, Shared *s, u32 taken, float best) {
    u32 tid = threadIdx.x;
    for (u32 i = tid; i < BINS; i += THREADS) s->bins[i] = 0;
    __syncthreads();
    for (u32 k = tid; k < taken; k += THREADS) {
        float score = score_in(table.value[table.list[k]]);
        if (score >= best - b.beam) atomicAdd(&s->bins[bin_of(best, score, b.beam)], 1u);
    }
    __syncthreads();
    if (tid < 32) {
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
            if (running > b.max_active) { cut = tid * (BINS / 32) + i; break; }
        }
        cut = __reduce_min_sync(FULL, cut);
        if (tid == 0) s->cut_bin = cut < 1 ? 1 : cut;
    }
    __syncthreads();
    return (int)s->cut_bin;
}

// The arcs of one frame from `count` states into the table. What ends more than `reach` below the best
// state so far is left out. Returns the arcs visited.
__device__ u32 expand(const Graph &g, const Batch &b, Table table, Shared *s, Front *now, u32 count, const u32 *states,
                      const float *scores, const Front *before, const float *row, float reach) {
    u32 lane = threadIdx.x & 31, warp = threadIdx.x >> 5, visits = 0, queued = 0;
    Waiting *w = &s->warp[warp];
    u32 top = 0;
    for (int c = 1 + (int)lane; c < b.tokens; c += 32) top = max(top, ordered(row[c]));
    // `seen`: the best state of this frame; `known`: a bound on it, which may run ahead.
    float loud = score_of(warp_max(top)), blank = row[0], known = LOWEST, seen = LOWEST;
    // What the states near the best one lead to is a first bound on the best score.
    if (lane < min(before->tops, (u32)TOPS)) {
        uint2 near = before->top[lane];
        uint4 from = g.state[near.x];
#pragma unroll
        for (u32 k = 0; k < LOOKS; ++k)
            if (k < (from.y & 0xffffffu)) {
                uint2 arc = g.arc[from.x + k];
                known = fmaxf(known, (__uint_as_float(near.y) + __uint_as_float(arc.y)) + row[arc.x >> STATE_BITS]);
            }
    }
    known = score_of(warp_max(known > LOWEST ? ordered(known) : 0));
    float floor = score_of(s->floor);
    u32 group = min(max((count + WARPS - 1) / WARPS, 1u), 32u);
    for (u32 first = warp * group; first < count; first = (WARPS + __shfl_sync(FULL, lane ? 0 : atomicAdd(&now->group, 1u), 0)) * group) {
        if (__any_sync(FULL, *(volatile u32 *)&now->lost)) break;
        seen = fmaxf(seen, score_of(__shfl_sync(FULL, *(volatile u32 *)&now->best, 0)));
        known = fmaxf(known, seen);
        float cut = fmaxf(known - reach, floor);
        u32 begin = 0, degree = 0;
        float score = LOWEST;
        if (lane < group && first + lane < count) {
            uint4 from = g.state[states[first + lane]];
            score = scores[first + lane];
            begin = from.x;
            degree = worth_looking(from, score + loud - cut, g.least_cost, score + blank - g.least_cost >= cut - 1e-3f);
        }
        u32 sum = w->pieces.lay(begin, degree, __float_as_uint(score));
        if (lane == 0) visits += sum;
        Walk walk(w->pieces);
        for (u32 chunk = 0; chunk < sum; chunk += 64) {
            uint2 arc[2];
            u32 number[2];
            float there[2];
#pragma unroll
            for (int j = 0; j < 2; ++j) {
                u32 at = chunk + 32 * j + lane;
                u32 owner = walk.owner(chunk + 32 * j);
                uint2 piece = w->pieces.piece[at < sum ? owner : 0];
                number[j] = piece.x + at;
                there[j] = __uint_as_float(piece.y);
                arc[j] = make_uint2(0, 0);
                if (at < sum) arc[j] = g.arc[number[j]];
            }
            bool better = false;
#pragma unroll
            for (int j = 0; j < 2; ++j) {
                there[j] = (there[j] + __uint_as_float(arc[j].y)) + row[arc[j].x >> STATE_BITS];
                bool hit = chunk + 32 * j + lane < sum && there[j] >= cut && there[j] > LOWEST;
                u32 votes = __ballot_sync(FULL, hit);
                if (hit) {
                    u32 at = queued + lanes_before(votes);
                    w->state[at] = arc[j].x & STATE_MASK;
                    w->value[at] = valued(there[j], number[j]);
                } else there[j] = LOWEST;
                queued += __popc(votes);
                better |= there[j] > seen;
            }
            if (__any_sync(FULL, better)) {
                u32 high = warp_max(better ? ordered(fmaxf(there[0], there[1])) : 0);
                if (lane == 0) atomicMax(&now->best, high);
                seen = unordered(high);
                known = fmaxf(known, seen);
                cut = fmaxf(cut, known - reach);
            }
            while (queued >= 32) {
                visits += take(g, table, now, w, queued, cut);
                queued -= 32;
            }
        }
        __syncwarp();
    }
    if (queued) visits += take(g, table, now, w, queued, fmaxf(known - reach, floor));
    return visits;
}

// Where the scores of a record's frame are.
__device__ __forceinline__ float *scores_at(const Record &r, int u, int t, u64 base) {
    return r.room ? r.score + ((u64)u * 2 + (t & 1)) * r.room : r.score + base;
}

// What is left of the table goes into the record, the table is cleared. Returns false if the pool is full.
__device__ bool settle(const Batch &b, const Record &r, Table table, Shared *s, Front *now, int u, int t, long long first,
                       float best, int bin_out, u32 *place) {
    u32 tid = threadIdx.x, taken = now->used;
    if (s->left < taken) {
        __syncthreads();
        if (tid == 0) {
            u32 size = max(taken, r.chunk);
            u64 base = atomicAdd(r.top, (u64)size);
            s->base_ok = base + size <= r.capacity;
            s->base = base;
            s->left = size;
        }
        __syncthreads();
        if (!s->base_ok) {
            if (tid == 0) s->left = 0;
            return false;
        }
    }
    u64 base = s->base;
    *place = (u32)base;
    float *scores = scores_at(r, u, t, base);
    for (u32 k = tid; k < ((taken + 31) & ~31u); k += THREADS) {
        u32 slot = k < taken ? table.list[k] : 0;
        u64 value = k < taken ? table.value[slot] : 0;
        float score = score_in(value);
        bool keep = k < taken && score >= best - b.beam && bin_of(best, score, b.beam) < bin_out;
        u32 votes = __ballot_sync(FULL, keep), at = 0;
        if ((tid & 31) == 0 && votes) at = atomicAdd(&now->kept, (u32)__popc(votes));
        at = __shfl_sync(FULL, at, 0) + lanes_before(votes);
        if (keep) {
            u32 state = table.key[slot];
            r.state[base + at] = state;
            if (r.arc) r.arc[base + at] = ~(u32)value;
            scores[at] = score - best;
            now->note(state, score - best);
        }
        if (k < taken) { table.key[slot] = EMPTY; table.value[slot] = 0; }
    }
    if (tid == 0) { r.base[first + t] = (u32)base; r.norm[first + t] = best; }
    return true;
}

// The arcs of an utterance's best path, last first, by the whole block; returns how many there are.
__device__ int read_path(const Graph &g, const Record &r, long long first, int t, u64 end, u32 *path, int room, uint2 *found) {
    u32 state = ~(u32)end;
    u32 count = r.count[first + t], base = r.base[first + t];
    for (int n = 0;; ++n) {
        // The tables of the frame before are on their way meanwhile.
        u32 count_before = t ? r.count[first + t - 1] : 0, base_before = t ? r.base[first + t - 1] : 0;
        for (u32 i = threadIdx.x; i < count; i += THREADS) {
            u32 arc = r.arc[base + i];
            if (r.state[base + i] == state) found[n & 1] = make_uint2(arc, arc == NO_ARC ? 0 : g.source[arc]);
        }
        __syncthreads();
        uint2 step = found[n & 1];
        if (step.x == NO_ARC) return n;
        if (threadIdx.x == 0 && n < room) path[n] = step.x;
        state = step.y;
        if (step.x < g.num_emitting) { --t; count = count_before; base = base_before; }
    }
}

// Before a search: NaN or +inf anywhere fails an utterance, and this one alone; and how much there will be to do,
// by the tokens that are not far below the best of their frame.
extern "C" __global__ void __launch_bounds__(THREADS) look(Batch b, Record r, int *busy) {
    __shared__ u32 bad, sum;
    int u = b.order[blockIdx.x], begin = max(r.frame[u], 0), frames = b.length[u];
    const Input *input = b.log_probs + b.row[u] * b.stride_n - b.skip[u] * b.stride_t;
    u32 lane = threadIdx.x & 31, mine = NO_FRAME, near = 0;
    if (threadIdx.x == 0) { bad = NO_FRAME; sum = 0; }
    __syncthreads();
    for (int f = begin + (int)(threadIdx.x / 32); f < frames; f += WARPS) {
        float most = LOWEST;
        for (int c = lane; c < b.tokens; c += 32) {
            float x = reading(input + f * b.stride_t + c * b.stride_c);
            if (!(x < INFINITE)) mine = min(mine, (u32)f);
            else most = fmaxf(most, x);
        }
        most = unordered(warp_max(ordered(most)));
        for (int c = lane; c < b.tokens; c += 32)
            near += (reading(input + f * b.stride_t + c * b.stride_c) - most) * b.scale >= -0.5f * b.beam;
    }
    if (mine != NO_FRAME) atomicMin(&bad, mine);
    atomicAdd(&sum, near);
    __syncthreads();
    if (threadIdx.x) return;
    busy[u] = (int)min(sum, 0x7fffffffu);
    if (bad == NO_FRAME || r.status[u] == BAD_INPUT || r.status[u] == DEAD) return;
    r.status[u] = BAD_INPUT;
    r.frame[u] = (int)bad;
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) search(Graph g, Batch b, Record r, int *cursor, u32 *keys, u64 *values, u32 *lists) {
    extern __shared__ u64 space[];
    Shared &s = *(Shared *)space;
    u64 *rest = space + (sizeof(Shared) + 7) / 8;
    u32 tid = threadIdx.x;
    Table table;
    float *rows;           // of this frame and the next
#if SHARED_TABLE
    table.value = rest;
    table.key = (u32 *)(rest + SLOTS);
    rows = (float *)(table.key + SLOTS);
    table.list = (Slot *)(rows + 2 * b.tokens);
#else
    table.value = values + (u64)blockIdx.x * SLOTS;
    table.key = keys + (u64)blockIdx.x * SLOTS;
    table.list = lists + (u64)blockIdx.x * LISTED;
    rows = (float *)rest;
#endif
    if (tid == 0) { s.left = 0; s.base = 0; }
    clear(table, &s.front[0]);
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
        u32 most = 0;
        int restarts = 0;
        if (r.status[u] == BAD_INPUT || r.status[u] == DEAD) continue;
        if (tid == 0) { s.floor = 0; s.front[0].forget(); s.front[1].forget(); }
        __syncthreads();
        int status = RUNNING;
        u32 base = 0, count = 0;
        if (t >= 0) {
            // Carried over: what is active, and which of it are the best?
            base = r.base[first + t];
            count = r.count[first + t];
            const float *scores = scores_at(r, u, t, base);
            for (u32 i = tid; i < count; i += THREADS) s.front[t & 1].note(r.state[base + i], scores[i]);
        }
        if (t < frames)
            for (int c = tid; c < b.tokens; c += THREADS)
                rows[((t + 1) & 1) * b.tokens + c] = t < 0 ? 0.0f : reading(input + t * b.stride_t + c * b.stride_c) * b.scale;
        __syncthreads();
        float reach = b.beam, best = 0.0f;
        int out = BINS;
        // Record t is what lives after t frames; record 0 comes of the start state and its epsilons.
        for (; t < frames; ++t) {
            Front *now = &s.front[(t + 1) & 1], *before = &s.front[t & 1];
            float ahead = 0.0f;
            bool early = t + 1 < frames && (int)tid < b.tokens;
            int tries = 0;
            if (early) ahead = reading(input + (t + 1) * b.stride_t + (int)tid * b.stride_c);
            for (;;) {
                if (t < 0) {
                    if (tid < 32) {
                        if (tid == 0) { s.warp[0].state[0] = g.start; s.warp[0].value[0] = valued(0.0f, NO_ARC); now->best = ordered(0.0f); }
                        visits += take(g, table, now, &s.warp[0], 1, -b.beam);
                    }
                } else
                    visits += expand(g, b, table, &s, now, count, r.state + base, scores_at(r, u, t, base), before,
                                     rows + ((t + 1) & 1) * b.tokens, reach);
                __syncthreads();
                if (now->lost) {
                    // Too many states for the table: those it holds tell a cut-off that is safe (the bin that does
                    // not fit whole lies above it), and the frame is done again with that.
                    // Where much of it lies far below the best by now, to know the best is enough.
                    u32 floor = s.floor;
                    bool hopeless = now->best == 0 || ++tries > 8 || LISTED < b.max_active + b.max_active / 8 + 64;
                    if (!hopeless) {
                        best = unordered(now->best);
                        out = first_bin_out(b, table, &s, min(now->used, (u32)LISTED), best);
                        if (out < BINS) floor = max(floor, ordered(best - (float)(out + 1) * (b.beam / BINS) * 1.0001f));
                    }
                    ++restarts;
                    clear(table, now);
                    if (hopeless) { status = TABLE_FULL; break; }
                    if (tid == 0) { s.floor = floor; now->group = 0; }
                    __syncthreads();
                    continue;
                }
                if (now->best == 0) { status = DEAD; break; }
                best = unordered(now->best);
                out = now->used > b.max_active ? first_bin_out(b, table, &s, now->used, best) : BINS;
                if (reach == b.beam || out <= (int)(reach * (BINS / b.beam))) break;
                // Fewer than max_active within a reach that was too short: what lies further is looked for, too.
                reach = b.beam;
                ++restarts;
                __syncthreads();
                if (tid == 0) now->group = 0;
                __syncthreads();
            }
            if (status != RUNNING) break;
            // Where max_active cut, it will cut again: what lies far below is left out from the beginning.
            reach = out == BINS ? b.beam : fminf(b.beam, REACH_MORE + REACH_TIMES * (float)out * (b.beam / BINS));
            u32 place = 0;
            bool fits = settle(b, r, table, &s, now, u, t + 1, first, best, out, &place);
            if (!fits) { status = POOL_FULL; break; }
            // The next frame's log_probs are read while this one is searched.
            if (t + 1 < frames) {
                float *next = rows + (t & 1) * b.tokens;
                if (early) next[tid] = ahead * b.scale;
                for (int c = tid + THREADS; c < b.tokens; c += THREADS)
                    next[c] = reading(input + (t + 1) * b.stride_t + c * b.stride_c) * b.scale;
            }
            if (tid == 0) {
                before->forget();
                s.floor = 0;
            }
            __syncthreads();
            base = place;
            count = now->kept;
            if (t >= 0) active += count;
            most = max(most, count);
            if (tid == 0) { r.count[first + t + 1] = count; s.base += count; s.left -= count; }
        }
        __syncthreads();
        if (status == POOL_FULL) clear(table, &s.front[0]);
        int length = 0;
        if (status == RUNNING) {
            status = DONE;
            // The best end: in a final state if there is one.
            if (tid == 0) s.end = 0;
            __syncthreads();
            const float *scores = scores_at(r, u, t, base);
            for (int pass = 0; pass < 2; ++pass) {
                u64 best = 0;
                for (u32 i = tid; i < count; i += THREADS) {
                    u32 state = r.state[base + i];
                    float x = scores[i] + (pass ? 0.0f : g.final[state]);
                    if (x > LOWEST) best = max64(best, ((u64)ordered(x) << 32) | (u32)~state);
                }
                if (best) atomicMax(&s.end, best);
                __syncthreads();
                if (s.end != 0) { if (tid == 0) r.best[u * 2 + pass] = s.end; break; }
                __syncthreads();
            }
            if (r.arc) length = read_path(g, r, first, t, s.end, r.path + r.path_first[u], r.path_first[u + 1] - r.path_first[u], s.found);
        }
        if (tid == 0) {
            r.status[u] = status; r.frame[u] = t; r.restarts[u] += restarts; r.active[u] += active;
            r.most[u] = max(r.most[u], most); r.path_length[u] = length;
        }
        if (visits) atomicAdd(&r.visited[u], visits);
    }
}

// The best paths again, for a record that grew since, or with more room.
extern "C" __global__ void __launch_bounds__(THREADS) trace(Graph g, Batch b, Record r) {
    __shared__ uint2 found[2];
    int u = blockIdx.x, length = 0;
    if (r.status[u] == DONE) {
        u64 end = r.best[u * 2] ? r.best[u * 2] : r.best[u * 2 + 1];
        length = read_path(g, r, b.first[u], r.frame[u], end, r.path + r.path_first[u], r.path_first[u + 1] - r.path_first[u], found);
    }
    if (threadIdx.x == 0) r.path_length[u] = length;
}
