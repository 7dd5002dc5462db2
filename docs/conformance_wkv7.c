/* WKV-7 in C, checked with the test vectors of rwkv_np. Build and run:
 *
 *     python -m rwkv_np vectors vectors --operator wkv7
 *     cc -O2 -o conformance docs/conformance_wkv7.c -lm && ./conformance vectors
 *     python -m rwkv_np check vectors
 *
 * It reads vectors/index.txt and vectors/vectors.safetensors and writes the outputs and the final states to
 * vectors/results.safetensors. Replace wkv7().
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_AXES = 8, MAX_CASES = 1000, ARGUMENTS = 6 };
enum { R, LAM, K, V, A, B };
static const char *NAMES[ARGUMENTS] = { "r", "lam", "k", "v", "a", "b" };

typedef struct { float *data; size_t count; int axes; long shape[MAX_AXES]; } Array;
typedef struct { Array in[ARGUMENTS]; } Case;

/* One sequence: r, lam, k, a, b are (T, H, N), v and out (T, H, M); S is (H, M, N), zero before the first token.
 *
 *     S <- S (diag(e^lam) + a b^T) + v k^T,     out = S r
 *
 * S[value, key] is double: over long sequences a float drifts. lam is the log decay: e^lam in float has lost it.
 */
static void wkv7(long T, long H, long N, long M, const float *r, const float *lam, const float *k, const float *v,
                 const float *a, const float *b, float *out, double *S)
{
    double *w = malloc(N * sizeof *w);
    for (long t = 0; t < T; t++)
        for (long h = 0; h < H; h++) {
            long key = (t * H + h) * N, value = (t * H + h) * M;
            for (long n = 0; n < N; n++) w[n] = exp((double)lam[key + n]);
            for (long m = 0; m < M; m++) {
                double *row = S + (h * M + m) * N, sa = 0, sum = 0;
                for (long n = 0; n < N; n++) sa += row[n] * a[key + n];             /* of S before this token */
                for (long n = 0; n < N; n++) {
                    row[n] = row[n] * w[n] + sa * b[key + n] + (double)v[value + m] * k[key + n];
                    sum += row[n] * r[key + n];                                     /* read after the update */
                }
                out[value + m] = (float)sum;
            }
        }
    free(w);
}

static FILE *open_in(const char *folder, const char *name, const char *mode)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, mode);
    if (!file) { perror(path); exit(2); }
    return file;
}

/* Read the inputs of all cases; return how many there are. */
static int read_cases(const char *folder, Case *cases)
{
    FILE *index = open_in(folder, "index.txt", "r"), *vectors = open_in(folder, "vectors.safetensors", "rb");
    char name[64], dtype[8];
    long offset;
    int count = 0;
    Array array;
    while (fscanf(index, "%63s %7s %ld %d", name, dtype, &offset, &array.axes) == 4) {
        array.count = 1;
        for (int axis = 0; axis < array.axes; axis++) {
            if (fscanf(index, "%ld", &array.shape[axis]) != 1) exit(2);
            array.count *= array.shape[axis];
        }
        int id = atoi(name), argument = 0;
        while (argument < ARGUMENTS && strcmp(strchr(name, '/') + 1, NAMES[argument])) argument++;
        if (argument == ARGUMENTS) continue;                    /* expected results: not needed here */
        array.data = malloc(array.count * sizeof(float) + 1);
        fseek(vectors, offset, SEEK_SET);
        if (fread(array.data, sizeof(float), array.count, vectors) != array.count) exit(2);
        cases[id].in[argument] = array;
        if (id >= count) count = id + 1;
    }
    fclose(index), fclose(vectors);
    return count;
}

/* The state has the axes (..., H, M, N): those of v without time, and N. */
static Array state_of(const Case *c)
{
    Array v = c->in[V], state = { NULL, 1, v.axes, { 0 } };
    for (int axis = 0; axis < v.axes - 3; axis++) state.shape[axis] = v.shape[axis];
    state.shape[v.axes - 3] = v.shape[v.axes - 2];
    state.shape[v.axes - 2] = v.shape[v.axes - 1];
    state.shape[v.axes - 1] = c->in[R].shape[v.axes - 1];
    for (int axis = 0; axis < state.axes; axis++) state.count *= state.shape[axis];
    return state;
}

/* Append one entry of the header: name, dtype, shape, where its numbers begin and end. */
static char *describe(char *end, int id, const char *name, const char *dtype, Array a, size_t *bytes, size_t size)
{
    end += sprintf(end, "%s\"%03d/%s\":{\"dtype\":\"%s\",\"shape\":[", *bytes ? "," : "", id, name, dtype);
    for (int axis = 0; axis < a.axes; axis++) end += sprintf(end, "%s%ld", axis ? "," : "", a.shape[axis]);
    end += sprintf(end, "],\"data_offsets\":[%zu,%zu]}", *bytes, *bytes + size * a.count);
    *bytes += size * a.count;
    return end;
}

int main(int argc, char **argv)
{
    const char *folder = argc > 1 ? argv[1] : "vectors";
    static Case cases[MAX_CASES];
    int count = read_cases(folder, cases);

    /* results.safetensors: eight bytes with the header's length, the header in JSON, the numbers. */
    char *header = malloc(600 * (size_t)count + 16), *end = header + sprintf(header, "{");
    size_t bytes = 0;
    for (int id = 0; id < count; id++) {
        end = describe(end, id, "out", "F32", cases[id].in[V], &bytes, 4);
        end = describe(end, id, "state", "F64", state_of(&cases[id]), &bytes, 8);
    }
    end += sprintf(end, "}");
    while ((end - header) % 8) *end++ = ' ';                    /* numbers begin at a multiple of 8 bytes */
    uint64_t length = end - header;
    FILE *results = open_in(folder, "results.safetensors", "wb");
    fwrite(&length, 8, 1, results);
    fwrite(header, 1, length, results);
    free(header);
    for (int id = 0; id < count; id++) {
        Array *in = cases[id].in, v = in[V], state = state_of(&cases[id]);
        long M = v.shape[v.axes - 1], H = v.shape[v.axes - 2], T = v.shape[v.axes - 3], N = state.shape[v.axes - 1];
        size_t keys = T * H * N, values = T * H * M, matrices = H * M * N, sequences = v.count / values;
        float *out = malloc(4 * v.count + 1);
        double *S = calloc(state.count + 1, sizeof *S);
        for (size_t s = 0; s < sequences; s++)
            wkv7(T, H, N, M, in[R].data + s * keys, in[LAM].data + s * keys, in[K].data + s * keys,
                 in[V].data + s * values, in[A].data + s * keys, in[B].data + s * keys, out + s * values,
                 S + s * matrices);
        fwrite(out, 4, v.count, results);
        fwrite(S, 8, state.count, results);
        free(out), free(S);
    }
    return fclose(results) ? 2 : 0;
}
