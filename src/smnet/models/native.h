/* What native.c and answer.c share. */

#include <stdlib.h>
#include <string.h>

typedef struct {
    long clips, frames, height, width, channels;
    int threads;
} Size;

#define CHUNKS 8 /* of a clip's pixels: the unit of work of a thread */

/* See native.c; X is (N, P, C), k (3, C), zeros (C). */
void smnet_pool(
    const float *x, const float *k, const float *zeros, float *seen, float *sums, const Size *size);
void smnet_excite(
    const float *x, const float *k, const float *zeros, const float *scale, const float *gate,
    float *y, const Size *size);
void smnet_edge_means(const float *x, const float *sums, float *means, const Size *size);
