/* Items of several draws: the members of an ensemble, or the passes of a network with dropout. The
 * definitions are in fastal/ops/reference/draws.py.
 *
 * Draws that nearly agree have a BALD near 0, the difference of two entropies. In doubles it keeps
 * its digits. Each lane holds one item, or, if items are large, one class of one item. */

/* The rounding errors of both entropies stay below this. A smaller difference is no disagreement.
 */
#define LEAST_BALD 1e-12

enum { HELD = 2048 }; /* the most values of an item if each lane holds one item */

#define LN_2 0x1.62e42fefa39efp-1

/* 2^t for -1000 <= t <= 0: relative error 4e-14, exactly 1 at 0; NaN for NaN. */
INLINE vd exp2_double(vd t) {
    const vd n = nearest_double(t), f = t - n, square = f * f;
    /* (2^f - 1) / f for |f| <= 1/2, by a Chebyshev interpolation. The even and the odd powers are
     * two chains that run side by side. */
    vd even = square * set_double(0x1.b63880a30e9ffp-24) + set_double(0x1.ffcb9515a8016p-17);
    vd odd = square * set_double(0x1.63d136366db24p-20) + set_double(0x1.4308ac85aa947p-13);
    even = even * square + set_double(0x1.5d87fe86fe88ep-10);
    odd = odd * square + set_double(0x1.3b2ab7181b755p-7);
    even = even * square + set_double(0x1.c6b08d7047e52p-5);
    odd = odd * square + set_double(0x1.ebfbdff823cedp-3);
    even = even * square + set_double(LN_2);
    return scale_double((odd * f + even) * f + set_double(1), n);
}

/* log2 of e^(x / T) over e^(top / T), at least -1000. NaN stays. `scale` is log2 e / T. */
INLINE vd below(vd x, vd top, double scale) {
    return larger_double(set_double(-1000), (x - top) * set_double(scale));
}

/* ln u for normal u > 0: absolute error 2^-48, and relative near 1. */
INLINE vd log_double(vd u) {
    /* u = 2^exponent m, with m from sqrt(1/2) to sqrt(2). The shifted bits get a sign back. */
    const long_words bits = (long_words)u + (0x4010000000000000 - 0x3fe6a09e667f3bcd);
    const vd exponent =
        (vd)((bits >> 52) | 0x4330000000000000) - set_double(0x1p52 + 0x401); /* 2^52 + whole */
    const vd m = (vd)((bits & 0x000fffffffffffff) + 0x3fe6a09e667f3bcd);
    const vd z = (m - set_double(1)) / (m + set_double(1)), square = z * z; /* ln m = 2 artanh z */
    vd q = square * set_double(1.0 / 19) + set_double(1.0 / 17);
    q = q * square + set_double(1.0 / 15);
    q = q * square + set_double(1.0 / 13);
    q = q * square + set_double(1.0 / 11);
    q = q * square + set_double(1.0 / 9);
    q = q * square + set_double(1.0 / 7);
    q = q * square + set_double(1.0 / 5);
    q = q * square + set_double(1.0 / 3);
    return exponent * set_double(LN_2) + (z + z) + (z + z) * square * q;
}

/* ln(1 + x) for x > -1/2. */
INLINE vd log1p_double(vd x) {
    const vd u = set_double(1) + x;
    return log_double(u) + (x - (u - set_double(1))) / u;
}

/* -p ln p; 0 for 0. */
INLINE vd entropy_of(vd p) { return -p * log_double(larger_double(p, set_double(0x1p-1000))); }

/* Of a distribution whose values come one by one: the largest and the second largest value, and the
 * sum and the entropy of all others than the largest. */
struct spread {
    vd top, second, tail, entropy;
};

INLINE struct spread nothing(void) {
    return (struct spread){set_double(-1), set_double(-1), set_double(0), set_double(0)};
}

/* Adds values p. The value that is not the largest, or no longer, joins the sums. */
INLINE void spread_out(vd p, int with_entropy, struct spread *s) {
    const vd less = smaller_double(p, s->top);
    const vd loser = larger_double(less, set_double(0)); /* the first top is -1 */
    s->second = larger_double(s->second, less);
    s->top = where_less_double(p, s->top, s->top, p); /* NaN stays */
    s->tail += loser;
    if (with_entropy)
        s->entropy += entropy_of(loser);
}

/* The entropy of the whole distribution, whose sum is 1. */
INLINE vd whole_entropy(const struct spread *s) {
    const vd by_tail = -s->top * log1p_double(-smaller_double(s->tail, set_double(0.25)));
    return s->entropy + where_less_double(s->tail, set_double(0.25), by_tail, entropy_of(s->top));
}

/* What the scores of D items follow from. */
struct agreement {
    vd expected_entropy; /* the mean of the draws' entropies; NaN if the item is invalid */
    vd variance;         /* the mean of the classes' variances */
    vd most_votes, vote_entropy;
    struct spread mean; /* of the mean distribution */
};

/* Stores the scores of n items. */
INLINE void store_scores(const struct draws_job *job, int64_t first, int n,
                         const struct agreement *a) {
    const double n_classes = job->n_classes, n_draws = job->n_draws;
    const vd of_mean = whole_entropy(&a->mean), bald = of_mean - a->expected_entropy;
    const vd found[N_DRAWS_MEASURES] = {
        [MEAN_ENTROPY] = of_mean,
        [EXPECTED_ENTROPY] = a->expected_entropy,
        [BALD] = where_less_double(bald, set_double(LEAST_BALD), set_double(0), bald),
        [VARIATION_RATIO] = set_double(1) - a->most_votes / set_double(n_draws),
        [VOTE_ENTROPY] = a->vote_entropy,
        [VARIANCE] = a->variance,
        [MEAN_LEAST_CONFIDENCE] = a->mean.tail * set_double(n_classes / (n_classes - 1)),
        [MEAN_MARGIN] = a->mean.tail + a->mean.second,
        [MEAN_RATIO] = a->mean.second / a->mean.top,
    };
    for (int measure = 0; measure < N_DRAWS_MEASURES; measure++)
        if (job->scores[measure] != NULL) {
            /* A difference with itself keeps NaN, and is 0 for numbers. */
            const vd score = found[measure] + (a->expected_entropy - a->expected_entropy);
            float scores[W];
            store(scores, narrowed(score, score));
            memcpy(job->scores[measure] + first, scores, n * sizeof(float));
        }
}

/* Which groups of scores are asked for. */
struct wanted {
    int entropies, votes, variance;
};

INLINE struct wanted wanted_of(const struct draws_job *job) {
    return (struct wanted){
        job->scores[EXPECTED_ENTROPY] != NULL || job->scores[BALD] != NULL ||
            job->scores[MEAN_ENTROPY] != NULL,
        job->scores[VARIATION_RATIO] != NULL || job->scores[VOTE_ENTROPY] != NULL,
        job->scores[VARIANCE] != NULL,
    };
}

/* --- each lane holds one item */

/* Memory of one thread. Of W items, the lower and the upper half alternate. */
struct room {
    float *x;    /* [values of an item, W] */
    vd *weights; /* [values of an item, 2]: the probabilities times the sum of the draw's weights */
    vd *inverses, *tops, *rests; /* [draws, 2]: 1 / sum, the largest weight, 1 - p of it */
    vd *votes;                   /* [draws] */
};

/* Transposes the values of W items: value i of all of them goes to columns + i * W. */
INLINE void turn_items(const struct draws_job *job, int64_t first, int n, int dtype, int is_probs,
                       char *packed, float *columns) {
    const int64_t size = size_of(dtype), n_classes = job->n_classes, stride = job->row_stride;
    const int is_dense = job->class_stride == size && job->draw_stride == n_classes * size;
    const char *rows = job->data + first * stride;
    const int64_t runs = is_dense ? 1 : job->n_draws;
    const int64_t run = is_dense ? n_classes * job->n_draws : n_classes;
    /* Bytes from here to the end of the memory: no more may be read. */
    const int64_t left = (job->n_rows - 1 - first) * stride +
                         (job->n_draws - 1) * job->draw_stride +
                         (n_classes - 1) * job->class_stride + size;
    for (int64_t s = 0; s < runs; s++) {
        const char *from = rows + s * job->draw_stride;
        int64_t pitch = stride;
        if (job->class_stride != size ||
            s * job->draw_stride + (W - 1) * stride + padded(run) * size > left) {
            pitch = padded(run) * size;
            for (int row = 0; row < n && row < W; row++)
                for (int64_t i = 0; i < run; i++)
                    memcpy(packed + row * pitch + i * size,
                           from + row * stride + i * (is_dense ? size : job->class_stride), size);
            from = packed;
        }
        turn(from, pitch, run, dtype, is_probs, columns + s * run * W);
    }
}

/* The sum of the draws' entropies. Of logits, it is the logarithm of the product of all sums of
 * weights, less the weighted means of the exponents: one logarithm serves many draws. */
struct entropies {
    vd product; /* less 1 */
    vd moments; /* of the exponents to base 2 */
    vd sum;
};

enum { FACTORS = 48 }; /* a sum is at most HELD = 2^11, and a double at most 2^1024 */

INLINE void take_logarithm(struct entropies *e) {
    e->sum += log1p_double(e->product) - e->moments * set_double(LN_2);
    e->product = e->moments = set_double(0);
}

/* Adds a draw of logits of W items. Neighbouring values x are W apart. */
INLINE void add_logits(const struct draws_job *job, int64_t s, const struct room *room,
                       struct entropies *entropies) {
    const int64_t n_classes = job->n_classes;
    const float *x = room->x + s * n_classes * W;
    const double scale = job->per_temperature / LN_2;
    vf most = load(x);
    for (int64_t c = 1; c < n_classes; c++)
        most = larger(load(x + c * W), most);
    const vd tops[2] = {lower(most), upper(most)};
    const vd zero = set_double(0), one = set_double(1);
    vd sums[2] = {zero, zero}, tails[2] = {zero, zero}, moments[2] = {zero, zero};
    vd *weights = room->weights + 2 * s * n_classes;
    for (int64_t c = 0; c < n_classes; c++)
        for (int half = 0; half < 2; half++) {
            const vd t = below(load_double(x + c * W + half * D), tops[half], scale);
            const vd e = weights[2 * c + half] = exp2_double(t);
            sums[half] += e;
            tails[half] += where_less_double(e, one, e, zero);
            moments[half] += t * e;
        }
    for (int half = 0; half < 2; half++) {
        const vd inverse = one / sums[half];
        /* The weights that are 1 are counted: all but one of them belong to the tail. */
        const vd tail = tails[half] + (nearest_double(sums[half] - tails[half]) - one);
        room->inverses[2 * s + half] = inverse;
        room->tops[2 * s + half] = one;
        room->rests[2 * s + half] = tail * inverse;
        struct entropies *e = entropies + half;
        e->product += tail + tail * e->product;
        e->moments += moments[half] * inverse;
        if (s % FACTORS == FACTORS - 1)
            take_logarithm(e);
    }
}

/* The same of probabilities. */
INLINE void add_probs(const struct draws_job *job, int64_t s, const struct room *room,
                      int with_entropy, struct entropies *entropies) {
    const int64_t n_classes = job->n_classes;
    const vd one = set_double(1);
    for (int half = 0; half < 2; half++) {
        const float *x = room->x + s * n_classes * W + half * D;
        vd *weights = room->weights + 2 * s * n_classes + half, sum = set_double(0), top = sum;
        for (int64_t c = 0; c < n_classes; c++) {
            const vd p = load_double(x + c * W) * set_double(1 / (double)PROBS_SCALE);
            weights[2 * c] = p;
            top = larger_double(p, top);
            sum += p;
        }
        const vd off = larger_double(sum - one, one - sum);
        const vd inverse =
            where_less_double(set_double(job->tolerance), off, set_double(NAN), one / sum);
        struct spread spread = nothing();
        for (int64_t c = 0; c < n_classes; c++)
            spread_out(weights[2 * c] * inverse, with_entropy, &spread);
        room->inverses[2 * s + half] = inverse;
        room->tops[2 * s + half] = top;
        room->rests[2 * s + half] = spread.tail;
        entropies[half].sum += inverse - inverse; /* NaN if the draw is invalid */
        if (with_entropy)
            entropies[half].sum += whole_entropy(&spread);
    }
}

INLINE void count_votes(const struct draws_job *job, const float *x, vd *votes,
                        struct agreement *a) {
    const vd n_draws = set_double(job->n_draws), zero = set_double(0), one = set_double(1);
    for (int64_t s = 0; s < job->n_draws; s++) {
        const float *draw = x + s * job->n_classes * W;
        vd top = load_double(draw), vote = zero;
        for (int64_t c = 1; c < job->n_classes; c++) {
            const vd value = load_double(draw + c * W);
            vote = where_less_double(top, value, set_double(c), vote);
            top = larger_double(value, top);
        }
        votes[s] = vote;
    }
    a->most_votes = a->vote_entropy = zero;
    for (int64_t c = 0; c < job->n_classes; c++) {
        vd count = zero;
        for (int64_t s = 0; s < job->n_draws; s++) {
            const vd off = votes[s] - set_double(c);
            count += where_less_double(off * off, set_double(0.5), one, zero);
        }
        a->most_votes = larger_double(a->most_votes, count);
        a->vote_entropy += entropy_of(count / n_draws);
    }
    a->vote_entropy = larger_double(a->vote_entropy, zero); /* -1 ln 1 is -0 */
}

/* The variance of the probabilities of one class.
 *
 * It follows from differences from the first draw: equal draws give exactly 0. Where that draw has
 * its peak, p may be so near 1 that p - 1 keeps the digits and p does not. */
INLINE vd variance_of(const struct room *room, int64_t c, int64_t n_classes, int64_t n_draws,
                      int half) {
    const vd *weights = room->weights + 2 * c + half, *inverses = room->inverses + half;
    const vd *tops = room->tops + half, *rests = room->rests + half;
    const vd one = set_double(1), first = weights[0], top = tops[0];
    const vd origin = where_less_double(first, top, first * inverses[0], -rests[0]);
    vd sum = set_double(0), squares = set_double(0);
    for (int64_t s = 1; s < n_draws; s++) {
        const vd weight = weights[2 * s * n_classes], p = weight * inverses[2 * s];
        const vd below_one = where_less_double(weight, tops[2 * s], p - one, -rests[2 * s]);
        const vd off = where_less_double(first, top, p, below_one) - origin;
        sum += off;
        squares += off * off;
    }
    const vd per_draw = set_double(1.0 / n_draws), mean = sum * per_draw;
    return squares * per_draw - mean * mean;
}

/* Scores the n items of one half. */
INLINE void score_half(const struct draws_job *job, int64_t first, int n, struct wanted wanted,
                       vd entropies, int half, const struct room *room) {
    const int64_t n_classes = job->n_classes, n_draws = job->n_draws;
    const vd per_draw = set_double(1.0 / n_draws);
    struct agreement a = {
        .expected_entropy = entropies * per_draw, .variance = set_double(0), .mean = nothing()};
    for (int64_t c = 0; c < n_classes; c++) {
        vd mean = set_double(0);
        for (int64_t s = 0; s < n_draws; s++)
            mean += room->weights[2 * (s * n_classes + c) + half] * room->inverses[2 * s + half];
        spread_out(mean * per_draw, wanted.entropies, &a.mean);
        if (wanted.variance)
            a.variance += variance_of(room, c, n_classes, n_draws, half);
    }
    a.variance *= set_double(1.0 / n_classes);
    if (wanted.votes)
        count_votes(job, room->x + half * D, room->votes, &a);
    store_scores(job, first, n, &a);
}

enum { MOST_AHEAD = 4096 };

/* Scores at most W items. */
INLINE void score_lanes(const struct draws_job *job, int64_t first, int n, int dtype, int is_probs,
                        struct wanted wanted, const struct room *room) {
    /* The weights are free until now. */
    turn_items(job, first, n, dtype, is_probs, (char *)room->weights, room->x);
    struct entropies entropies[2] = {{set_double(0), set_double(0), set_double(0)},
                                     {set_double(0), set_double(0), set_double(0)}};
    const int64_t share = W * job->row_stride / job->n_draws;
    for (int64_t s = 0; s < job->n_draws; s++) {
        /* The next items come from memory meanwhile. */
        const char *next = job->data + (first + W) * job->row_stride + s * share;
        for (int64_t i = 0; i < share && i < MOST_AHEAD; i += 64)
            __builtin_prefetch(next + i);
        if (is_probs)
            add_probs(job, s, room, wanted.entropies, entropies);
        else
            add_logits(job, s, room, entropies);
    }
    for (int half = 0; half < 2 && half * D < n; half++) {
        take_logarithm(entropies + half);
        score_half(job, first + half * D, n - half * D < D ? n - half * D : D, wanted,
                   entropies[half].sum, half, room);
    }
}

/* --- each lane holds one class of one item */

/* Memory of one thread. All but the votes are [vectors of a draw]. */
struct wide_room {
    vd *p, *mean, *running, *squares;
    double *votes;
};

/* W values from class c on. Beyond the last class, values that have probability 0. */
INLINE vf values_of(const char *row, int64_t stride, int64_t c, int64_t n_classes, int dtype,
                    int is_probs) {
    const char *p = row + c * stride;
    if (stride == size_of(dtype) && c + W <= n_classes)
        return get(p, dtype, is_probs);
    const int n = n_classes - c < W ? n_classes - c : W;
    ALIGNED float x[W];
    store(x, strided(p, stride, n, dtype, is_probs));
    for (int i = n; i < W; i++)
        x[i] = is_probs ? 0 : -INFINITY;
    return load(x);
}

/* The largest value of a draw, and its class: the first of several. */
INLINE float largest_of(const struct draws_job *job, const char *row, int dtype, int is_probs,
                        double *vote) {
    const int64_t n_classes = job->n_classes, stride = job->class_stride;
    float lanes[W], top = -INFINITY;
    vf largest = set(-INFINITY);
    for (int64_t c = 0; c < n_classes; c += W)
        largest = larger(values_of(row, stride, c, n_classes, dtype, is_probs), largest);
    store(lanes, largest);
    for (int i = 0; i < W; i++)
        top = lanes[i] > top ? lanes[i] : top;
    unsigned found = 0;
    for (int64_t c = 0; c < n_classes && !found; c += W) {
        found = lanes_not_less(values_of(row, stride, c, n_classes, dtype, is_probs), set(top));
        *vote = found ? c + __builtin_ctz(found) : 0;
    }
    return top;
}

/* Writes the distribution p of a draw of one item; returns its entropy. */
INLINE double wide_softmax(const struct draws_job *job, const char *row, int dtype, int is_probs,
                           int with_entropy, double *vote, double *rest, vd *p) {
    const int64_t n_classes = job->n_classes, n_vectors = padded(n_classes) / D;
    const double per_scale = 1 / (double)PROBS_SCALE;
    const float largest = largest_of(job, row, dtype, is_probs, vote);
    const vd top = set_double(largest);
    vd sum = set_double(0), moment = set_double(0), tail = set_double(0), losses = set_double(0);
    for (int64_t c = 0; c < n_classes; c += W) {
        const vf x = values_of(row, job->class_stride, c, n_classes, dtype, is_probs);
        const vd halves[2] = {lower(x), upper(x)};
        for (int half = 0; half < 2; half++) {
            vd e = halves[half] * set_double(per_scale);
            if (!is_probs) {
                const vd t = below(halves[half], top, job->per_temperature / LN_2);
                e = exp2_double(t);
                moment += t * e;
            }
            p[c / D + half] = e;
            sum += e;
        }
    }
    const double total = sum_of_lanes(sum), most = is_probs ? largest * per_scale : 1;
    const int is_off = !(total - 1 <= job->tolerance && 1 - total <= job->tolerance);
    const double inverse = is_probs && is_off ? NAN : 1 / total;
    for (int64_t i = 0; i < n_vectors; i++) {
        tail += where_less_double(p[i], set_double(most), p[i], set_double(0));
        if (is_probs && with_entropy)
            losses += where_less_double(p[i], set_double(most),
                                        entropy_of(p[i] * set_double(inverse)), set_double(0));
        p[i] *= set_double(inverse);
    }
    double others = sum_of_lanes(tail);
    const double ties = nearbyint((total - others) / most) - 1; /* values like the largest */
    others += ties * most;
    *rest = others * inverse;
    if (!is_probs)
        return log1p(others) - sum_of_lanes(moment) * inverse * LN_2;
    const double share = most * inverse;
    return sum_of_lanes(losses) - ties * share * log(share) - share * log1p(-others * inverse);
}

/* The lanes of a spread as one distribution, in every lane. */
INLINE struct spread joined(struct spread a) {
    double top = a.top[0], second = a.second[0], tail = a.tail[0], entropy = a.entropy[0];
    for (int i = 1; i < D; i++) {
        const double loser = a.top[i] < top ? a.top[i] : top;
        top = a.top[i] < top ? top : a.top[i];
        second = a.second[i] > second ? a.second[i] : second;
        second = loser > second ? loser : second;
        tail += a.tail[i] + loser;
        entropy += a.entropy[i] - (loser > 0 ? loser * log(loser) : 0);
    }
    return (struct spread){set_double(top), set_double(second), set_double(tail),
                           set_double(entropy)};
}

/* The votes of the draws of one item. */
static void count_wide_votes(const double *votes, int64_t n_draws, struct agreement *a) {
    double most = 0, entropy = 0;
    for (int64_t s = 0; s < n_draws; s++) {
        double count = 0;
        int is_first = 1;
        for (int64_t other = 0; other < n_draws; other++) {
            count += votes[other] == votes[s];
            is_first &= other >= s || votes[other] != votes[s];
        }
        most = count > most ? count : most;
        if (is_first && count < n_draws)
            entropy -= count / n_draws * log(count / n_draws);
    }
    a->most_votes = set_double(most);
    a->vote_entropy = set_double(entropy);
}

INLINE void score_wide(const struct draws_job *job, int64_t item, int dtype, int is_probs,
                       struct wanted wanted, const struct wide_room *room) {
    const int64_t n_draws = job->n_draws, n_vectors = padded(job->n_classes) / D;
    const char *rows = job->data + item * job->row_stride;
    const vd per_draw = set_double(1.0 / n_draws);
    double entropy = 0;
    for (int64_t s = 0; s < n_draws; s++) {
        double rest;
        entropy += wide_softmax(job, rows + s * job->draw_stride, dtype, is_probs, wanted.entropies,
                                room->votes + s, &rest, room->p);
        for (int64_t i = 0; i < n_vectors; i++)
            room->mean[i] = room->p[i] + (s == 0 ? set_double(0) : room->mean[i]);
        if (!wanted.variance)
            continue;
        /* As in `variance_of`, p - 1 for the class that has the peak of the first draw. */
        double *p = (double *)room->p + (int64_t)room->votes[0];
        *p = room->votes[s] == room->votes[0] ? -rest : *p - 1;
        /* Welford's running means: equal draws give exactly 0. */
        for (int64_t i = 0; i < n_vectors; i++) {
            if (s == 0)
                room->running[i] = room->p[i], room->squares[i] = set_double(0);
            const vd off = room->p[i] - room->running[i];
            room->running[i] += off * set_double(1.0 / (s + 1));
            room->squares[i] += off * (room->p[i] - room->running[i]);
        }
    }
    struct agreement a = {.expected_entropy = set_double(entropy / n_draws), .mean = nothing()};
    vd variance = set_double(0);
    for (int64_t i = 0; i < n_vectors; i++) {
        spread_out(room->mean[i] * per_draw, wanted.entropies, &a.mean);
        if (wanted.variance)
            variance += room->squares[i] * per_draw;
    }
    a.variance = set_double(sum_of_lanes(variance) / job->n_classes);
    a.mean = joined(a.mean);
    if (wanted.votes)
        count_wide_votes(room->votes, n_draws, &a);
    store_scores(job, item, 1, &a);
}

/* --- both */

INLINE void score_some(const struct draws_job *job, int64_t first, int64_t n, int dtype,
                       int is_probs, struct wanted wanted, const struct room *room,
                       const struct wide_room *wide_room) {
    if (room->x != NULL)
        for (int64_t end = first + n; first < end; first += W)
            score_lanes(job, first, end - first < W ? end - first : W, dtype, is_probs, wanted,
                        room);
    else
        for (int64_t item = first; item < first + n; item++)
            score_wide(job, item, dtype, is_probs, wanted, wide_room);
}

static void score_draws(const struct draws_job *job, int64_t first, int64_t n, struct wanted wanted,
                        const struct room *room, const struct wide_room *wide_room) {
    switch (job->dtype) {
#define OF_TYPE(dtype)                                                                             \
    case dtype:                                                                                    \
        if (job->is_probs)                                                                         \
            score_some(job, first, n, dtype, 1, wanted, room, wide_room);                          \
        else if (wanted.entropies) {                                                               \
            wanted.entropies = 1;                                                                  \
            score_some(job, first, n, dtype, 0, wanted, room, wide_room);                          \
        } else                                                                                     \
            score_some(job, first, n, dtype, 0, wanted, room, wide_room);                          \
        break;
        OF_TYPE(FLOAT16)
        OF_TYPE(BFLOAT16)
        OF_TYPE(FLOAT32)
#undef OF_TYPE
    case FLOAT64: break; /* the caller refuses it */
    }
}

int DRAWS(const void *given) {
    const struct draws_job *job = given;
    const int64_t values = job->n_draws * job->n_classes, row_bytes = values * size_of(job->dtype);
    const int64_t held = padded(values) + W, vectors = padded(job->n_classes) / D;
    const int is_held = values <= HELD;
    const struct wanted wanted = wanted_of(job);
    /* Before the weights, their place has packed values of the items. */
    const int64_t n_vectors = is_held ? 2 * held + 7 * job->n_draws : 4 * vectors + job->n_draws;
    const int64_t n_floats = is_held ? W * held : 0;
    char *memory = NULL;
    if (posix_memalign((void **)&memory, 64, n_vectors * sizeof(vd) + n_floats * sizeof(float)))
        return -1;
    vd *p = (vd *)memory, *inverses = p + 2 * held, *votes = inverses + 6 * job->n_draws;
    const struct room room = {is_held ? (float *)(p + n_vectors) : NULL,
                              p,
                              inverses,
                              inverses + 2 * job->n_draws,
                              inverses + 4 * job->n_draws,
                              votes};
    const struct wide_room wide_room = {p, p + vectors, p + 2 * vectors, p + 3 * vectors,
                                        (double *)(p + 4 * vectors)};
    int64_t first, n, done = 0;
    while (done < A_WHILE && (n = claim(job->progress, job->n_rows, row_bytes, job->n_threads,
                                        is_held ? W : 1, &first)) > 0) {
        score_draws(job, first, n, wanted, &room, &wide_room);
        __atomic_fetch_add(&job->progress->n_done, n, __ATOMIC_RELEASE);
        done += n * row_bytes;
    }
    free(memory);
    return done > 0;
}
