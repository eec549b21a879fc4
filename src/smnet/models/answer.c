/* SMNet's module of a network that only answers, in one call.
 *
 * Its mask and its gates are small, and in a small network it is calls that take the time. The
 * letters are those of smnet.py and excitation.py; N = clips * T frames of P = H * W pixels.
 */

#include <math.h>
#include <omp.h>

#include "native.h"

#define LANES 32     /* pixels of a row at a time */
#define CHANNELS 512 /* at a time: of so many the nine means stay in the nearest cache */

/* norm(weight * in + bias), the norm being by what it has learned. There is NULL for no bias and
 * for no norm. */
typedef struct {
    const float *weight, *bias, *mean, *variance, *gain, *offset;
    float epsilon;
} Layer;

typedef struct {
    const float *taps; /* K_t, (C, 3) */
    Layer attention;   /* K_7x7, (2, kernel, kernel) */
    Layer squeeze;     /* K_r, (squeezed, C) */
    Layer transform;   /* K_3x3, (squeezed, 3, 3) */
    Layer expand;      /* K_e, (C, squeezed) */
    long kernel, squeezed;
    float residual; /* beside M_m */
    int both;       /* D forward and backward in time */
} Module;

static float settled(const Layer *of, long i, float value)
{
    if (of->bias != NULL) value += of->bias[i];
    if (of->variance == NULL) return value;
    return (value - of->mean[i]) / sqrtf(of->variance[i] + of->epsilon) * of->gain[i]
           + of->offset[i];
}

static float sigmoid(float x)
{
    return 1 / (1 + expf(-x));
}

/* A of a frame, 1 + M_s (P), from what is seen of it (2, P); edged is room for that with zeros
 * around it. */
static void mask_of(const float *seen, const Module *m, Size s, float *edged, float *a)
{
    long side = m->kernel, half = side / 2, rows = s.height + 2 * half;
    long row = (s.width + LANES - 1) / LANES * LANES + 2 * half;
    memset(edged, 0, sizeof(float) * (size_t)(2 * rows * row));
    for (long plane = 0; plane < 2; plane++)
        for (long i = 0; i < s.height; i++)
            memcpy(
                edged + (plane * rows + half + i) * row + half,
                seen + (plane * s.height + i) * s.width, sizeof(float) * (size_t)s.width);
    for (long i = 0; i < s.height; i++)
        for (long j = 0; j < s.width; j += LANES) {
            float sum[LANES] = {0};
            for (long plane = 0; plane < 2; plane++)
                for (long u = 0; u < side; u++)
                    for (long v = 0; v < side; v++) {
                        const float *from = edged + (plane * rows + i + u) * row + j + v;
                        float weight = m->attention.weight[(plane * side + u) * side + v];
                        for (long lane = 0; lane < LANES; lane++) sum[lane] += weight * from[lane];
                    }
            for (long lane = 0; lane < LANES && j + lane < s.width; lane++)
                a[i * s.width + j + lane] = 1 + sigmoid(settled(&m->attention, 0, sum[lane]));
        }
}

typedef float Eight __attribute__((vector_size(32), aligned(4)));

/* sums (9) += x (9, CHANNELS) times w, of the first channels. */
static void add_dots(const float *x, const float *w, long channels, float *sums)
{
    Eight parts[9] = {{0}};
    long c = 0;
    for (; c + 8 <= channels; c += 8)
        for (long k = 0; k < 9; k++)
            parts[k] += *(const Eight *)(w + c) * *(const Eight *)(x + k * CHANNELS + c);
    for (long k = 0; k < 9; k++) {
        for (long lane = 0; lane < 8; lane++) sums[k] += parts[k][lane];
        for (long rest = c; rest < channels; rest++) sums[k] += w[rest] * x[k * CHANNELS + rest];
    }
}

/* What entry i of a kernel of 3 meets of a line's last pixel, its mean and its first. */
static void meet(float met[3][3], long size)
{
    float edge = -1 / (float)size, all[3][3] = {{edge, 1, 0}, {0, 1, 0}, {0, 1, edge}};
    memcpy(met, all, sizeof(all));
}

/* GAP(F) and GAP(P) of a frame, both (squeezed), from its edge means (9, C); nine is room for
 * (squeezed, 9). */
static void motion_of(const float *means, const Module *m, Size s, float *nine, float *f, float *p)
{
    float rows[3][3], columns[3][3];
    meet(rows, s.height);
    meet(columns, s.width);
    memset(nine, 0, sizeof(float) * (size_t)(9 * m->squeezed));
    for (long from = 0; from < s.channels; from += CHANNELS) {
        long channels = s.channels - from < CHANNELS ? s.channels - from : CHANNELS;
        float some[9 * CHANNELS];
        for (long k = 0; k < 9; k++)
            memcpy(
                some + k * CHANNELS, means + k * s.channels + from,
                sizeof(float) * (size_t)channels);
        for (long r = 0; r < m->squeezed; r++)
            add_dots(some, m->squeeze.weight + r * s.channels + from, channels, nine + 9 * r);
    }
    for (long r = 0; r < m->squeezed; r++) {
        const float *k = m->transform.weight + 9 * r;
        float sum = 0;
        for (long at = 0; at < 9; at++) {
            float met = 0, mean = settled(&m->squeeze, r, nine[9 * r + at]);
            for (long i = 0; i < 3; i++)
                for (long j = 0; j < 3; j++)
                    met += rows[i][at / 3] * k[3 * i + j] * columns[j][at % 3];
            sum += met * mean;
            if (at == 4) f[r] = mean;
        }
        p[r] = settled(&m->transform, r, sum);
    }
}

/* B of frame t of a clip (C) from GAP(F) and GAP(P) of its frames, (T, squeezed); d is room for
 * their difference. */
static void gate_of(const float *f, const float *p, long t, const Module *m, Size s, float *d, float *b)
{
    long width = m->squeezed;
    const float *ahead = t + 1 < s.frames ? p + (t + 1) * width : NULL;
    const float *back = m->both && t > 0 ? p + (t - 1) * width : NULL;
    for (long r = 0; r < width; r++) {
        float here = f[t * width + r];
        d[r] = (ahead == NULL ? 0 : ahead[r] - here) + (back == NULL ? 0 : back[r] - here);
        if (m->both) d[r] /= 2;
    }
    for (long c = 0; c < s.channels; c++) {
        float sum = 0;
        const float *w = m->expand.weight + c * width;
#pragma omp simd reduction(+ : sum)
        for (long r = 0; r < width; r++) sum += w[r] * d[r];
        b[c] = sigmoid(settled(&m->expand, c, sum)) + m->residual;
    }
}

/* The next so many floats of a room. */
static float *take(float **room, long count)
{
    float *taken = *room;
    *room += count;
    return taken;
}

/* Y (N, P, C) of X. Returns 0, or 1 where there was no memory. */
int smnet_answer(const float *x, float *y, const Module *m, const Size *size)
{
    Size s = *size;
    long all = s.clips * s.frames, pixels = s.height * s.width, c = s.channels, r = m->squeezed;
    long edged = 2 * (s.height + m->kernel) * (s.width + LANES + m->kernel);
    long own = edged + 9 * r; /* of a thread */
    long shared = 4 * c + 3 * all * pixels + s.clips * CHUNKS * s.frames * c + 10 * all * c;
    float *room = malloc(sizeof(float) * (size_t)(shared + 2 * all * r + s.threads * own));
    if (room == NULL) return 1;
    float *rest = room, *k = take(&rest, 3 * c), *zeros = take(&rest, c);
    float *seen = take(&rest, 2 * all * pixels), *scale = take(&rest, all * pixels);
    float *sums = take(&rest, s.clips * CHUNKS * s.frames * c), *means = take(&rest, 9 * all * c);
    float *gate = take(&rest, all * c), *f = take(&rest, all * r), *p = take(&rest, all * r);
    for (long channel = 0; channel < c; channel++) {
        for (long tap = 0; tap < 3; tap++) k[tap * c + channel] = m->taps[3 * channel + tap];
        zeros[channel] = 0;
    }
    smnet_pool(x, k, zeros, seen, sums, size);
    smnet_edge_means(x, sums, means, size);
#pragma omp parallel num_threads(s.threads)
    {
        float *mine = rest + own * omp_get_thread_num();
#pragma omp for schedule(static)
        for (long n = 0; n < all; n++) {
            mask_of(seen + 2 * n * pixels, m, s, mine, scale + n * pixels);
            motion_of(means + 9 * n * c, m, s, mine + edged, f + n * r, p + n * r);
        }
#pragma omp for schedule(static)
        for (long n = 0; n < all; n++) {
            long first = n / s.frames * s.frames * r;
            gate_of(f + first, p + first, n % s.frames, m, s, mine + edged, gate + n * c);
        }
    }
    smnet_excite(x, k, zeros, scale, gate, y, size);
    free(room);
    return 0;
}
