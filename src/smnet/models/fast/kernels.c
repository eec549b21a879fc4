/* Sums over features in one pass, for float32 on CPUs; see operators.py.
 *
 * With X (N, P, C) the features of N = clips * T frames of P = H * W pixels, channels innermost, and
 * the letters of operators.py:
 *
 *     Z[t] = K_0 X[t-1] + K_1 X[t] + K_2 X[t+1]          zero outside the clip
 *     Y    = Z A + X B
 *
 * Z is never stored. It is computed again wherever it is needed by the same two fused multiply-adds,
 * so a comparison with its maximum is exact. Sums over pixels are made per chunk and added in the
 * order of the chunks. The number of chunks does not depend on the number of threads, so neither
 * does the result.
 */

#include <stdlib.h>
#include <string.h>

#define CHUNKS 8           /* parts of the pixels of a clip: the unit of work of a thread */
#define FRAME_BYTES 65536  /* of one frame at a time: three frames of these stay in the cache */
#define CLIP_BYTES 131072  /* of all frames of a clip at a time */

/* Hash of the sources that this was compiled from; kernels.py compares it with the files. */
const char *smnet_source = SOURCE;

typedef struct {
    long clips, frames, height, width, channels;
    int threads;
} Size;

typedef const float *restrict in;
typedef float *restrict out;

typedef struct {
    long clip, first, last;
} Chunk;

static Chunk chunk_of(Size s, long number)
{
    long pixels = s.height * s.width;
    long part = number % CHUNKS;
    return (Chunk){number / CHUNKS, pixels * part / CHUNKS, pixels * (part + 1) / CHUNKS};
}

static long pixels_at_once(Size s, long bytes)
{
    long fit = bytes / (long)sizeof(float) / s.channels;
    return fit < 1 ? 1 : fit;
}

/* The features of a pixel in frame t of the clip; of a row of zeros outside it. */
static const float *pixel(const float *x, Size s, const float *zeros, long clip, long t, long p)
{
    if (t < 0 || t >= s.frames) return zeros;
    return x + ((clip * s.frames + t) * s.height * s.width + p) * s.channels;
}

static inline float mixed(float before, float here, float after, float k0, float k1, float k2)
{
    return __builtin_fmaf(k2, after, __builtin_fmaf(k1, here, k0 * before));
}

/* The mean and the maximum of Z over the channels: pooled (N, 2, P). */
static void pool_pixel(in before, in here, in after, in k, long channels, float *mean, float *top)
{
    float sum = 0, most = mixed(before[0], here[0], after[0], k[0], k[channels], k[2 * channels]);
#pragma omp simd reduction(+ : sum) reduction(max : most)
    for (long c = 0; c < channels; c++) {
        float z = mixed(before[c], here[c], after[c], k[c], k[channels + c], k[2 * channels + c]);
        sum += z;
        most = z > most ? z : most;
    }
    *mean = sum / (float)channels;
    *top = most;
}

void smnet_pool(const float *x, const float *k, const float *zeros, float *pooled, const Size *size)
{
    Size s = *size;
    long pixels = s.height * s.width, step = pixels_at_once(s, FRAME_BYTES);
#pragma omp parallel for num_threads(s.threads) schedule(static)
    for (long number = 0; number < s.clips * CHUNKS; number++) {
        Chunk at = chunk_of(s, number);
        for (long from = at.first; from < at.last; from += step)
            for (long t = 0; t < s.frames; t++)
                for (long p = from; p < from + step && p < at.last; p++) {
                    float *frame = pooled + 2 * (at.clip * s.frames + t) * pixels;
                    pool_pixel(
                        pixel(x, s, zeros, at.clip, t - 1, p), pixel(x, s, zeros, at.clip, t, p),
                        pixel(x, s, zeros, at.clip, t + 1, p), k, s.channels,
                        frame + p, frame + pixels + p);
                }
    }
}

/* Y (N, P, C) from A (N, P) and B (N, C). */
static void excite_pixel(
    in before, in here, in after, in k, float a, in b, out y, long channels)
{
    for (long c = 0; c < channels; c++) {
        float z = mixed(before[c], here[c], after[c], k[c], k[channels + c], k[2 * channels + c]);
        y[c] = z * a + here[c] * b[c];
    }
}

void smnet_excite(
    const float *x, const float *k, const float *zeros, const float *scale, const float *gate,
    float *y, const Size *size)
{
    Size s = *size;
    long pixels = s.height * s.width, step = pixels_at_once(s, FRAME_BYTES);
#pragma omp parallel for num_threads(s.threads) schedule(static)
    for (long number = 0; number < s.clips * CHUNKS; number++) {
        Chunk at = chunk_of(s, number);
        for (long from = at.first; from < at.last; from += step)
            for (long t = 0; t < s.frames; t++)
                for (long p = from; p < from + step && p < at.last; p++) {
                    long n = at.clip * s.frames + t;
                    excite_pixel(
                        pixel(x, s, zeros, at.clip, t - 1, p), pixel(x, s, zeros, at.clip, t, p),
                        pixel(x, s, zeros, at.clip, t + 1, p), k, scale[n * pixels + p],
                        gate + n * s.channels, y + (n * pixels + p) * s.channels, s.channels);
                }
    }
}

/* From dY = g: dA = sum_c g Z (N, P), dB = sum_p g X as partial sums (clips, CHUNKS, T, C), and
 * how many channels share the maximum (N, P). */
static void excitation_pixel(
    in before, in here, in after, in k, in g, float top, out of_gate, long channels,
    float *of_scale, float *ties)
{
    float sum = 0, equal = 0;
#pragma omp simd reduction(+ : sum, equal)
    for (long c = 0; c < channels; c++) {
        float z = mixed(before[c], here[c], after[c], k[c], k[channels + c], k[2 * channels + c]);
        sum += g[c] * z;
        equal += z == top ? 1.0f : 0.0f;
        of_gate[c] += g[c] * here[c];
    }
    *of_scale = sum;
    *ties = equal;
}

void smnet_excite_gradients(
    const float *g, const float *x, const float *k, const float *zeros, const float *pooled,
    float *of_scale, float *of_gate, float *ties, const Size *size)
{
    Size s = *size;
    long pixels = s.height * s.width, step = pixels_at_once(s, FRAME_BYTES);
#pragma omp parallel for num_threads(s.threads) schedule(static)
    for (long number = 0; number < s.clips * CHUNKS; number++) {
        Chunk at = chunk_of(s, number);
        float *sums = of_gate + number * s.frames * s.channels;
        memset(sums, 0, sizeof(float) * (size_t)(s.frames * s.channels));
        for (long from = at.first; from < at.last; from += step)
            for (long t = 0; t < s.frames; t++)
                for (long p = from; p < from + step && p < at.last; p++) {
                    long n = at.clip * s.frames + t;
                    excitation_pixel(
                        pixel(x, s, zeros, at.clip, t - 1, p), pixel(x, s, zeros, at.clip, t, p),
                        pixel(x, s, zeros, at.clip, t + 1, p), k,
                        g + (n * pixels + p) * s.channels, pooled[(2 * n + 1) * pixels + p],
                        sums + t * s.channels, s.channels, of_scale + n * pixels + p,
                        ties + n * pixels + p);
                }
    }
}

/* dZ of a frame: g A + everywhere + at_top where Z is the maximum; and what it adds to dK. */
static void mixed_gradient(
    in before, in here, in after, in k, in g, float a, float everywhere, float at_top, float top,
    out dz, out dk, long channels)
{
    for (long c = 0; c < channels; c++) {
        float z = mixed(before[c], here[c], after[c], k[c], k[channels + c], k[2 * channels + c]);
        float d = g[c] * a + everywhere + (z == top ? at_top : 0.0f);
        dz[c] = d;
        dk[c] += d * before[c];
        dk[channels + c] += d * here[c];
        dk[2 * channels + c] += d * after[c];
    }
}

/* dX of a frame from dZ of it and its neighbours. */
static void features_gradient(
    in dz_before, in dz, in dz_after, in k, in g, in b, out dx, long channels)
{
    for (long c = 0; c < channels; c++)
        dx[c] = mixed(dz_after[c], dz[c], dz_before[c], k[c], k[channels + c], k[2 * channels + c])
                + g[c] * b[c];
}

/* From dY = g and what mean and maximum take: dX (N, P, C), dK as partial sums (clips, CHUNKS, 3,
 * C). Returns 0, or 1 where there was no memory. */
int smnet_input_gradients(
    const float *g, const float *x, const float *k, const float *zeros, const float *scale,
    const float *gate, const float *pooled, const float *everywhere, const float *at_top, float *dx,
    float *dk, const Size *size)
{
    Size s = *size;
    int failed = 0;
    long pixels = s.height * s.width, step = pixels_at_once(s, CLIP_BYTES / s.frames);
#pragma omp parallel for num_threads(s.threads) schedule(static) reduction(| : failed)
    for (long number = 0; number < s.clips * CHUNKS; number++) {
        Chunk at = chunk_of(s, number);
        float *sums = dk + number * 3 * s.channels;
        memset(sums, 0, sizeof(float) * (size_t)(3 * s.channels));
        /* dZ of all frames of a few pixels, between two frames of zeros. */
        float *dz = calloc((size_t)((s.frames + 2) * step * s.channels), sizeof(float));
        if (dz == NULL) {
            failed = 1;
            continue;
        }
        for (long from = at.first; from < at.last; from += step) {
            for (long t = 0; t < s.frames; t++)
                for (long p = from; p < from + step && p < at.last; p++) {
                    long n = at.clip * s.frames + t, np = n * pixels + p;
                    mixed_gradient(
                        pixel(x, s, zeros, at.clip, t - 1, p), pixel(x, s, zeros, at.clip, t, p),
                        pixel(x, s, zeros, at.clip, t + 1, p), k, g + np * s.channels, scale[np],
                        everywhere[np], at_top[np], pooled[(2 * n + 1) * pixels + p],
                        dz + ((t + 1) * step + p - from) * s.channels, sums, s.channels);
                }
            for (long t = 0; t < s.frames; t++)
                for (long p = from; p < from + step && p < at.last; p++) {
                    long n = at.clip * s.frames + t, np = n * pixels + p;
                    const float *dz_here = dz + ((t + 1) * step + p - from) * s.channels;
                    features_gradient(
                        dz_here - step * s.channels, dz_here, dz_here + step * s.channels, k,
                        g + np * s.channels, gate + n * s.channels, dx + np * s.channels,
                        s.channels);
                }
        }
        free(dz);
    }
    return failed;
}

static void add(out sum, in x, long channels)
{
    for (long c = 0; c < channels; c++) sum[c] += x[c];
}

/* Means of X over a frame, its outer rows and columns and its corners: means (N, 3, 3, C), see
 * edge_means in operators.py. */
void smnet_edge_means(const float *x, float *means, const Size *size)
{
    Size s = *size;
    long c = s.channels, bottom = s.height - 1, right = s.width - 1;
    float counts[9] = {1, s.width, 1, s.height, s.height * s.width, s.height, 1, s.width, 1};
#pragma omp parallel for num_threads(s.threads) schedule(static)
    for (long n = 0; n < s.clips * s.frames; n++) {
        const float *frame = x + n * s.height * s.width * c;
        float *of = means + n * 9 * c;
        memset(of, 0, sizeof(float) * (size_t)(9 * c));
        for (long p = 0; p < s.height * s.width; p++) add(of + 4 * c, frame + p * c, c);
        for (long j = 0; j < s.width; j++) {
            add(of + 1 * c, frame + (bottom * s.width + j) * c, c);
            add(of + 7 * c, frame + j * c, c);
        }
        for (long i = 0; i < s.height; i++) {
            add(of + 3 * c, frame + (i * s.width + right) * c, c);
            add(of + 5 * c, frame + i * s.width * c, c);
        }
        add(of + 0 * c, frame + (bottom * s.width + right) * c, c);
        add(of + 2 * c, frame + bottom * s.width * c, c);
        add(of + 6 * c, frame + right * c, c);
        add(of + 8 * c, frame, c);
        for (long k = 0; k < 9; k++)
            for (long channel = 0; channel < c; channel++) of[k * c + channel] /= counts[k];
    }
}
