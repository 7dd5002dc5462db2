/* WKV-4 in C, checked with the test vectors of rwkv_np. Build and run:
 *
 *     python -m rwkv_np vectors vectors
 *     cc -O2 -o conformance docs/conformance_wkv4.c -lm && ./conformance vectors
 *     python -m rwkv_np check vectors
 *
 * It reads vectors/index.txt and vectors/vectors.safetensors and writes vectors/results.safetensors. Replace wkv().
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_AXES = 8, MAX_CASES = 1000 };

typedef struct { float *data; size_t count; int axes; long shape[MAX_AXES]; } Array;
typedef struct { Array w, u, k, v; } Case;

/* One sequence: k, v, out are (T, C). The sums are scaled by e^p, so that no exponential overflows. */
static void wkv(long T, long C, const float *w, const float *u, const float *k, const float *v, float *out)
{
    for (long c = 0; c < C; c++) {
        double num = 0, den = 0, p = -INFINITY;
        for (long t = 0; t < T; t++) {
            double k_t = k[t * C + c], v_t = v[t * C + c];
            double q = fmax(p, u[c] + k_t), e_past = exp(p - q), e_now = exp(u[c] + k_t - q);
            out[t * C + c] = (float)((e_past * num + e_now * v_t) / (e_past * den + e_now));
            q = fmax(p - w[c], k_t), e_past = exp((p - q) - w[c]), e_now = exp(k_t - q);
            num = e_past * num + e_now * v_t, den = e_past * den + e_now, p = q;
        }
    }
}

static FILE *open_in(const char *folder, const char *name, const char *mode)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, mode);
    if (!file) { perror(path); exit(2); }
    return file;
}

int main(int argc, char **argv)
{
    const char *folder = argc > 1 ? argv[1] : "vectors";
    static Case cases[MAX_CASES];
    int count = 0;

    FILE *index = open_in(folder, "index.txt", "r"), *vectors = open_in(folder, "vectors.safetensors", "rb");
    char name[64], dtype[8];
    long offset;
    Array array;
    while (fscanf(index, "%63s %7s %ld %d", name, dtype, &offset, &array.axes) == 4) {
        array.count = 1;
        for (int axis = 0; axis < array.axes; axis++) {
            if (fscanf(index, "%ld", &array.shape[axis]) != 1) return 2;
            array.count *= array.shape[axis];
        }
        int id = atoi(name);
        const char *part = strchr(name, '/') + 1;
        Array *target = !strcmp(part, "w") ? &cases[id].w : !strcmp(part, "u") ? &cases[id].u
                      : !strcmp(part, "k") ? &cases[id].k : !strcmp(part, "v") ? &cases[id].v : NULL;
        if (!target) continue;                                  /* what is expected: not needed here */
        array.data = malloc(array.count * sizeof(float) + 1);
        fseek(vectors, offset, SEEK_SET);
        if (fread(array.data, sizeof(float), array.count, vectors) != array.count) return 2;
        *target = array;
        if (id >= count) count = id + 1;
    }

    /* results.safetensors: eight bytes with the header's length, the header in JSON, the numbers. */
    char *header = malloc(400 * (size_t)count + 16), *end = header + sprintf(header, "{");
    size_t bytes = 0;
    for (int id = 0; id < count; id++) {
        Array k = cases[id].k;
        end += sprintf(end, "%s\"%03d/out\":{\"dtype\":\"F32\",\"shape\":[", id ? "," : "", id);
        for (int axis = 0; axis < k.axes; axis++) end += sprintf(end, "%s%ld", axis ? "," : "", k.shape[axis]);
        end += sprintf(end, "],\"data_offsets\":[%zu,%zu]}", bytes, bytes + 4 * k.count);
        bytes += 4 * k.count;
    }
    end += sprintf(end, "}");
    uint64_t length = end - header;
    FILE *results = open_in(folder, "results.safetensors", "wb");
    fwrite(&length, 8, 1, results);
    fwrite(header, 1, length, results);
    for (int id = 0; id < count; id++) {
        Array k = cases[id].k;
        long C = k.shape[k.axes - 1], T = k.shape[k.axes - 2];
        float *out = malloc(4 * k.count + 1);
        for (size_t at = 0; at < k.count; at += T * C)          /* sequence by sequence */
            wkv(T, C, cases[id].w.data, cases[id].u.data, k.data + at, cases[id].v.data + at, out + at);
        fwrite(out, 4, k.count, results);
        free(out);
    }
    return fclose(results) ? 2 : 0;
}
