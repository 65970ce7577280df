/* Runs an artifact by ONNX Runtime's C API, one observation a draw, with inputs and outputs that are bound once.
 *
 *     sampler FILE.onnx K < inputs > outputs
 *
 * Reads rows of all inputs (obs, noise and, where the choice looks back, previous), writes rows of all outputs
 * (particles, values, action, spread) and the draw's duration in µs; all float32, in the order of the graph.
 * K is the number of particles. `c_api.py` beside this file compiles it and holds it against Python.
 */
#define _POSIX_C_SOURCE 200809L /* clock_gettime */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "onnxruntime_c_api.h"

enum { MAX_TENSORS = 4, MAX_RANK = 3 };

static const OrtApi *ort;

static void check(OrtStatus *status) {
    if (status == NULL) return;
    fprintf(stderr, "onnxruntime: %s\n", ort->GetErrorMessage(status));
    exit(1);
}

typedef struct {
    float *values;
    size_t size;
} Buffer;

/* What the interface calls differently for inputs and for outputs. */
typedef struct {
    OrtStatusPtr(ORT_API_CALL *count)(const OrtSession *, size_t *);
    OrtStatusPtr(ORT_API_CALL *name)(const OrtSession *, size_t, OrtAllocator *, char **);
    OrtStatusPtr(ORT_API_CALL *type)(const OrtSession *, size_t, OrtTypeInfo **);
    OrtStatusPtr(ORT_API_CALL *bind)(OrtIoBinding *, const char *, const OrtValue *);
} Direction;

/* A buffer of a tensor's size and the value that stands for it. The free axes are B = 1, in front, and K. */
static OrtValue *allocate(const OrtTypeInfo *type, int64_t num_particles, Buffer *buffer) {
    const OrtTensorTypeAndShapeInfo *tensor;
    size_t rank;
    int64_t shape[MAX_RANK];
    check(ort->CastTypeInfoToTensorInfo(type, &tensor));
    check(ort->GetDimensionsCount(tensor, &rank));
    if (rank > MAX_RANK) exit(1);
    check(ort->GetDimensions(tensor, shape, rank));
    buffer->size = 1;
    for (size_t axis = 0; axis < rank; axis++) {
        if (shape[axis] < 0) shape[axis] = axis == 0 ? 1 : num_particles;
        buffer->size *= (size_t)shape[axis];
    }
    buffer->values = calloc(buffer->size, sizeof(float));

    OrtMemoryInfo *memory;
    OrtValue *value;
    check(ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
    check(ort->CreateTensorWithDataAsOrtValue(memory, buffer->values, buffer->size * sizeof(float), shape, rank,
                                              ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &value));
    return value;
}

static size_t bind(OrtSession *session, OrtIoBinding *binding, const Direction *direction, int64_t num_particles,
                   Buffer *buffers) {
    OrtAllocator *allocator;
    size_t count;
    check(ort->GetAllocatorWithDefaultOptions(&allocator));
    check(direction->count(session, &count));
    if (count > MAX_TENSORS) exit(1);
    for (size_t i = 0; i < count; i++) {
        char *name;
        OrtTypeInfo *type;
        check(direction->name(session, i, allocator, &name));
        check(direction->type(session, i, &type));
        check(direction->bind(binding, name, allocate(type, num_particles, &buffers[i])));
    }
    return count;
}

static int read_row(const Buffer *inputs, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (fread(inputs[i].values, sizeof(float), inputs[i].size, stdin) != inputs[i].size) return 0;
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: %s FILE.onnx K < inputs > outputs\n", argv[0]);
        return 2;
    }
    ort = OrtGetApiBase()->GetApi(ORT_API_VERSION);
    OrtEnv *env;
    OrtSessionOptions *options;
    OrtSession *session;
    OrtIoBinding *binding;
    check(ort->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "wpg", &env));
    check(ort->CreateSessionOptions(&options));
    check(ort->SetIntraOpNumThreads(options, 1));
    check(ort->CreateSession(env, argv[1], options, &session));
    check(ort->CreateIoBinding(session, &binding));

    Buffer inputs[MAX_TENSORS], outputs[MAX_TENSORS];
    int64_t num_particles = atoi(argv[2]);
    const Direction in = {ort->SessionGetInputCount, ort->SessionGetInputName, ort->SessionGetInputTypeInfo,
                          ort->BindInput};
    const Direction out = {ort->SessionGetOutputCount, ort->SessionGetOutputName, ort->SessionGetOutputTypeInfo,
                           ort->BindOutput};
    size_t num_inputs = bind(session, binding, &in, num_particles, inputs);
    size_t num_outputs = bind(session, binding, &out, num_particles, outputs);

    while (read_row(inputs, num_inputs)) {
        struct timespec before, after;
        clock_gettime(CLOCK_MONOTONIC, &before);
        check(ort->RunWithBinding(session, NULL, binding));
        clock_gettime(CLOCK_MONOTONIC, &after);
        float duration_us = (float)((after.tv_sec - before.tv_sec) * 1e6 + (after.tv_nsec - before.tv_nsec) / 1e3);
        for (size_t i = 0; i < num_outputs; i++) fwrite(outputs[i].values, sizeof(float), outputs[i].size, stdout);
        fwrite(&duration_us, sizeof duration_us, 1, stdout);
    }
    return 0;
}
