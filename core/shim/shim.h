// The C face of the shim: one table of functions for each ABI family of TensorRT.
//
// TensorRT's interface is C++ classes, whose tables of virtual functions differ between TensorRT
// 10, TensorRT 11 and TensorRT-RTX. shim.cpp is compiled once for each, against that family's
// headers; core/src/tensorrt/ffi.rs mirrors this file.
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Changes with every change of this file.
#define VC_SHIM_ABI 6

// Most dimensions of a tensor, as in TensorRT.
#define VC_MAX_DIMS 8

typedef struct VcDims {
    int32_t count;           // -1: the name is not a tensor's, or the profile does not exist
    int64_t at[VC_MAX_DIMS]; // -1: dynamic
} VcDims;

typedef struct VcTensor {
    const char *name; // the plan's own
    int32_t input;    // 1: input, 0: output
    int32_t type;     // nvinfer1::DataType
    int32_t format;   // nvinfer1::TensorFormat: how its values lie in memory
    VcDims dims;
} VcTensor;

// A message of TensorRT. Called by any thread.
typedef void (*VcLog)(int32_t severity, const char *message);

// Text of any length, handed to the caller.
typedef void (*VcText)(void *user, const char *text, size_t length);

// Progress of a build. `steps` >= 0: `phase` begins, inside `parent` or nothing; else `step` is
// done, or `phase` when it is negative too. Returns 0 to end the build. Called by any thread.
typedef int32_t (*VcProgress)(void *user, const char *phase, const char *parent, int32_t steps,
                              int32_t step);

// What a build is made of.
typedef struct VcBuild {
    void *create_builder;   // createInferBuilder_INTERNAL
    void *create_parser;    // createNvOnnxParser_INTERNAL
    int32_t version;        // getInferLibVersion()
    int32_t parser_version; // getNvOnnxParserVersion()
    const void *onnx;
    size_t onnx_size;
    int64_t channels, height, width; // of the one input
    int64_t min_batch, opt_batch, max_batch;
    int32_t half; // TensorRT 10 alone: let it choose FP16 for each layer of an FP32 graph
    const void *calibration; // TensorRT 10 alone: a calibration table, or null
    size_t calibration_size;
    const int32_t *capabilities; // TensorRT-RTX alone: 86 and so on; none: the GPU at hand
    int32_t capability_count;
    int32_t detailed;    // keep names and precisions of layers for inspection
    const void *timings; // not TensorRT-RTX: what earlier builds on this GPU measured, or null
    size_t timings_size;
    VcProgress progress; // or null
    void *progress_user;
} VcBuild;

typedef struct VcShim {
    uint32_t abi;                // VC_SHIM_ABI
    int32_t major, minor, patch; // of the headers
    void *(*logger)(VcLog log);
    void *(*runtime)(void *create_runtime, int32_t version, void *logger);
    void (*runtime_drop)(void *runtime);
    void *(*engine)(void *runtime, const void *plan, size_t size);
    void (*engine_drop)(void *engine);
    int32_t (*engine_tensors)(void *engine);
    int32_t (*engine_tensor)(void *engine, int32_t index, VcTensor *tensor);
    int32_t (*engine_profiles)(void *engine);
    // `selector`: 0 smallest, 1 best, 2 largest
    VcDims (*engine_profile)(void *engine, const char *name, int32_t profile, int32_t selector);
    // Shape of `output` when `input` has the shape `dims`, worked out without memory on the GPU.
    VcDims (*engine_shape)(void *engine, const char *input, const VcDims *dims, const char *output);
    int64_t (*engine_memory)(void *engine);
    int32_t (*engine_layers)(void *engine);
    int32_t (*engine_inspect)(void *engine, void *user, VcText text);
    // With scratch memory of its own, or in `memory` on the GPU, which may be shared with contexts
    // that never run at the same time. `kernels`: see below, or null; it outlives the context.
    void *(*context)(void *engine, void *memory, int64_t size, void *kernels);
    void (*context_drop)(void *context);
    int32_t (*context_profile)(void *context, int32_t profile, void *stream);
    int32_t (*context_shape)(void *context, const char *name, const VcDims *dims);
    int32_t (*context_address)(void *context, const char *name, void *address);
    int32_t (*context_enqueue)(void *context, void *stream);
    // Returns 1 and hands the plan to `plan`, and what was measured to `timings`, or 0 and the
    // reason to `error`.
    int32_t (*build)(const VcBuild *build, void *logger, void *user, VcText plan, VcText timings,
                     VcText error);
    // TensorRT-RTX alone: kernels that were compiled on this machine, from `bytes` where these are
    // good (`*taken`); null for others.
    void *(*kernels)(void *engine, const void *bytes, size_t size, int32_t *taken);
    void (*kernels_drop)(void *kernels);
    // What is in it now. Returns 0 where that is not to be had.
    int32_t (*kernels_write)(void *kernels, void *user, VcText bytes);
} VcShim;

const VcShim *vehiclecount_shim_tensorrt_10(void);
const VcShim *vehiclecount_shim_tensorrt_11(void);
const VcShim *vehiclecount_shim_tensorrt_rtx_1(void);

#ifdef __cplusplus
}
#endif
