// The few calls of TensorRT that counting needs, as C functions: see shim.h.
//
// core/build.rs compiles this once for each ABI family, with the family's headers, and with
// VC_FAMILY (10, 11 or 1 for TensorRT-RTX), VC_TABLE (the function to define) and NVIDIA's
// namespaces renamed: their inline functions would else be one for all families.
//
// No library is linked: the entry points come in as pointers. TensorRT's classes never throw, and
// are deleted through their own virtual destructors.
#include "shim.h"

#include <NvInfer.h>
#include <NvOnnxParser.h>
#include <cstdio>
#include <cstring>

using namespace nvinfer1;

namespace {

// Without a GPU, TensorRT's entry points have been seen to return small numbers for null.
template <typename T>
T *sane(T *pointer) {
    return reinterpret_cast<uintptr_t>(pointer) < 4096 ? nullptr : pointer;
}

VcDims dims_out(Dims const &dims) {
    VcDims out{};
    out.count = dims.nbDims > VC_MAX_DIMS ? -1 : dims.nbDims;
    for (int32_t i = 0; i < out.count; i++) out.at[i] = dims.d[i];
    return out;
}

class Logger final : public ILogger {
public:
    explicit Logger(VcLog log) : mLog(log) {}
    void log(Severity severity, AsciiChar const *message) noexcept override {
        mLog(static_cast<int32_t>(severity), message ? message : "");
    }

private:
    VcLog mLog;
};

class Progress final : public IProgressMonitor {
public:
    Progress(VcProgress tell, void *user) : mTell(tell), mUser(user) {}
    void phaseStart(char const *phase, char const *parent, int32_t steps) noexcept override {
        mTell(mUser, phase ? phase : "", parent, steps < 0 ? 0 : steps, -1);
    }
    bool stepComplete(char const *phase, int32_t step) noexcept override {
        return mTell(mUser, phase ? phase : "", nullptr, -1, step < 0 ? 0 : step) != 0;
    }
    void phaseFinish(char const *phase) noexcept override {
        mTell(mUser, phase ? phase : "", nullptr, -1, -1);
    }

private:
    VcProgress mTell;
    void *mUser;
};

#if VC_FAMILY == 10
// Hands over an existing table; there is no picture to calibrate with.
class Table final : public IInt8EntropyCalibrator2 {
public:
    Table(void const *data, size_t size) : mData(data), mSize(size) {}
    int32_t getBatchSize() const noexcept override { return 1; }
    bool getBatch(void *[], char const *[], int32_t) noexcept override { return false; }
    void const *readCalibrationCache(std::size_t &length) noexcept override {
        length = mSize;
        return mData;
    }
    void writeCalibrationCache(void const *, std::size_t) noexcept override {}

private:
    void const *mData;
    size_t mSize;
};
#endif

// Deletes at the end of its scope, the later one first: what TensorRT asks for.
template <typename T>
class Own {
public:
    explicit Own(T *it) : mIt(sane(it)) {}
    ~Own() { delete mIt; }
    Own(Own const &) = delete;
    Own &operator=(Own const &) = delete;
    T *operator->() const { return mIt; }
    T &operator*() const { return *mIt; }
    explicit operator bool() const { return mIt != nullptr; }
    // Takes another one.
    void take(T *it) {
        delete mIt;
        mIt = sane(it);
    }

private:
    T *mIt;
};

void *logger(VcLog log) { return new Logger(log); }

void *runtime(void *create, int32_t version, void *logger) {
    auto make = reinterpret_cast<void *(*)(void *, int32_t)>(create);
    // The version is the library's own: with that of newer headers it would refuse. Only what the
    // oldest one has is called.
    return sane(static_cast<IRuntime *>(
        make(static_cast<ILogger *>(static_cast<Logger *>(logger)), version)));
}

void runtime_drop(void *it) { delete static_cast<IRuntime *>(it); }

void *engine(void *runtime, void const *plan, size_t size) {
    return sane(static_cast<IRuntime *>(runtime)->deserializeCudaEngine(plan, size));
}

void engine_drop(void *it) { delete static_cast<ICudaEngine *>(it); }

int32_t engine_tensors(void *it) { return static_cast<ICudaEngine *>(it)->getNbIOTensors(); }

int32_t engine_tensor(void *it, int32_t index, VcTensor *tensor) {
    auto *engine = static_cast<ICudaEngine *>(it);
    tensor->name = engine->getIOTensorName(index);
    if (!tensor->name) return 0;
    tensor->input = engine->getTensorIOMode(tensor->name) == TensorIOMode::kINPUT;
    tensor->type = static_cast<int32_t>(engine->getTensorDataType(tensor->name));
    tensor->format = static_cast<int32_t>(engine->getTensorFormat(tensor->name));
    tensor->dims = dims_out(engine->getTensorShape(tensor->name));
    return 1;
}

int32_t engine_profiles(void *it) {
    return static_cast<ICudaEngine *>(it)->getNbOptimizationProfiles();
}

VcDims engine_profile(void *it, char const *name, int32_t profile, int32_t selector) {
    auto which = selector == 0   ? OptProfileSelector::kMIN
                 : selector == 1 ? OptProfileSelector::kOPT
                                 : OptProfileSelector::kMAX;
    return dims_out(static_cast<ICudaEngine *>(it)->getProfileShape(name, profile, which));
}

Dims dims_in(VcDims const &dims) {
    Dims in{};
    in.nbDims = dims.count;
    for (int32_t i = 0; i < dims.count; i++) in.d[i] = dims.at[i];
    return in;
}

VcDims engine_shape(void *it, char const *input, VcDims const *dims, char const *output) {
    VcDims none{};
    none.count = -1;
    auto *engine = static_cast<ICudaEngine *>(it);
    Own<IExecutionContext> context(
        engine->createExecutionContext(ExecutionContextAllocationStrategy::kUSER_MANAGED));
    if (!context || !context->setInputShape(input, dims_in(*dims))) return none;
    return dims_out(context->getTensorShape(output));
}

int64_t engine_memory(void *it) {
    // The newer call, which 10.0 lacks, differs only beyond 2^63 bytes.
#if VC_FAMILY == 10
    return static_cast<int64_t>(static_cast<ICudaEngine *>(it)->getDeviceMemorySize());
#else
    return static_cast<ICudaEngine *>(it)->getDeviceMemorySizeV2();
#endif
}

int32_t engine_layers(void *it) { return static_cast<ICudaEngine *>(it)->getNbLayers(); }

int32_t engine_inspect(void *it, void *user, VcText text) {
    Own<IEngineInspector> inspector(static_cast<ICudaEngine *>(it)->createEngineInspector());
    if (!inspector) return 0;
    char const *json = sane(inspector->getEngineInformation(LayerInformationFormat::kJSON));
    if (!json) return 0;
    text(user, json, strlen(json));
    return 1;
}

// A context, and with TensorRT-RTX the configuration that it was made with.
struct Context {
    IExecutionContext *it = nullptr;
#if VC_FAMILY == 1
    IRuntimeConfig *config = nullptr;
#endif
};

void context_drop(void *given) {
    auto *context = static_cast<Context *>(given);
    delete context->it;
#if VC_FAMILY == 1
    delete context->config;
#endif
    delete context;
}

void *context(void *given, void *memory, int64_t size, void *kernels) {
    auto *engine = static_cast<ICudaEngine *>(given);
    auto const strategy = memory ? ExecutionContextAllocationStrategy::kUSER_MANAGED
                                 : ExecutionContextAllocationStrategy::kSTATIC;
    auto *made = new Context;
#if VC_FAMILY == 1
    // TensorRT-RTX compiles kernels on the machine. By default it runs general ones until those for
    // a shape are ready; a CUDA graph that is recorded meanwhile would keep the slow ones. So the
    // first run of a shape waits for its own.
    made->config = sane(engine->createRuntimeConfig());
    if (made->config) {
        made->config->setExecutionContextAllocationStrategy(strategy);
        made->config->setDynamicShapesKernelSpecializationStrategy(
            DynamicShapesKernelSpecializationStrategy::kEAGER);
        if (kernels) made->config->setRuntimeCache(*static_cast<IRuntimeCache *>(kernels));
        made->it = sane(engine->createExecutionContext(made->config));
    }
#else
    (void)kernels;
    made->it = sane(engine->createExecutionContext(strategy));
#endif
    if (!made->it) {
        context_drop(made);
        return nullptr;
    }
    if (memory) {
#if VC_FAMILY == 10
        // The newer call came with 10.1.
        (void)size;
        made->it->setDeviceMemory(memory);
#else
        made->it->setDeviceMemoryV2(memory, size);
#endif
    }
    return made;
}

#if VC_FAMILY == 1
void *kernels(void *engine, void const *bytes, size_t size, int32_t *taken) {
    *taken = 0;
    Own<IRuntimeConfig> config(static_cast<ICudaEngine *>(engine)->createRuntimeConfig());
    IRuntimeCache *cache = config ? sane(config->createRuntimeCache()) : nullptr;
    if (cache && size) *taken = cache->deserialize(bytes, size);
    return cache;
}

void kernels_drop(void *it) { delete static_cast<IRuntimeCache *>(it); }

int32_t kernels_write(void *it, void *user, VcText bytes) {
    Own<IHostMemory> memory(static_cast<IRuntimeCache *>(it)->serialize());
    if (!memory) return 0;
    bytes(user, static_cast<char const *>(memory->data()), memory->size());
    return 1;
}
#else
void *kernels(void *, void const *, size_t, int32_t *taken) { return *taken = 0, nullptr; }
void kernels_drop(void *) {}
int32_t kernels_write(void *, void *, VcText) { return 0; }
#endif

int32_t context_profile(void *it, int32_t profile, void *stream) {
    return static_cast<Context *>(it)->it->setOptimizationProfileAsync(
        profile, static_cast<cudaStream_t>(stream));
}

int32_t context_shape(void *it, char const *name, VcDims const *dims) {
    return static_cast<Context *>(it)->it->setInputShape(name, dims_in(*dims));
}

int32_t context_address(void *it, char const *name, void *address) {
    return static_cast<Context *>(it)->it->setTensorAddress(name, address);
}

int32_t context_enqueue(void *it, void *stream) {
    return static_cast<Context *>(it)->it->enqueueV3(static_cast<cudaStream_t>(stream));
}

// The reason of a failed build: `text`, and TensorRT's own words stand in its log.
int32_t failed(VcText error, void *user, char const *text) {
    error(user, text, strlen(text));
    return 0;
}

int32_t build(VcBuild const *ask, void *log, void *user, VcText plan, VcText timings,
              VcText error) {
    auto *logger = static_cast<ILogger *>(static_cast<Logger *>(log));
    auto make_builder = reinterpret_cast<void *(*)(void *, int32_t)>(ask->create_builder);
    auto make_parser = reinterpret_cast<void *(*)(void *, void *, int32_t)>(ask->create_parser);
#if VC_FAMILY == 1
    (void)timings;
#else
    // Outlives the builder.
    Own<ITimingCache> timing(nullptr);
#endif
    Own<IBuilder> builder(static_cast<IBuilder *>(make_builder(logger, ask->version)));
    if (!builder) return failed(error, user, "TensorRT makes no builder");

    NetworkDefinitionCreationFlags flags = 0;
#if VC_FAMILY == 10
    // From TensorRT 11 on, every network is strongly typed.
    bool const weakly = ask->half || ask->calibration;
    if (!weakly)
        flags |= 1U << static_cast<uint32_t>(NetworkDefinitionCreationFlag::kSTRONGLY_TYPED);
#endif
    Own<INetworkDefinition> network(builder->createNetworkV2(flags));
    if (!network) return failed(error, user, "TensorRT makes no network");

    Own<nvonnxparser::IParser> parser(
        static_cast<nvonnxparser::IParser *>(make_parser(&*network, logger, ask->parser_version)));
    if (!parser) return failed(error, user, "TensorRT makes no ONNX parser");
    if (!parser->parse(ask->onnx, ask->onnx_size)) {
        char text[1024] = "the ONNX parser refuses the file and says nothing";
        if (parser->getNbErrors() > 0) {
            nvonnxparser::IParserError const *first = parser->getError(0);
            snprintf(text, sizeof text, "the ONNX parser refuses node %d: %s", first->node(),
                     first->desc() ? first->desc() : "");
        }
        return failed(error, user, text);
    }
    if (network->getNbInputs() != 1 || network->getNbOutputs() != 1) {
        char text[160];
        snprintf(text, sizeof text,
                 "the network has %d inputs and %d outputs, where one of each is needed",
                 network->getNbInputs(), network->getNbOutputs());
        return failed(error, user, text);
    }

    Own<IBuilderConfig> config(builder->createBuilderConfig());
    if (!config) return failed(error, user, "TensorRT makes no configuration");
    ITensor *input = network->getInput(0);
    IOptimizationProfile *profile = builder->createOptimizationProfile(); // the builder's own
    if (!sane(profile)) return failed(error, user, "TensorRT makes no optimization profile");
    auto shape = [&](int64_t batch) {
        return Dims4{batch, ask->channels, ask->height, ask->width};
    };
    bool fits =
        profile->setDimensions(input->getName(), OptProfileSelector::kMIN, shape(ask->min_batch));
    fits = fits && profile->setDimensions(input->getName(), OptProfileSelector::kOPT,
                                          shape(ask->opt_batch));
    fits = fits && profile->setDimensions(input->getName(), OptProfileSelector::kMAX,
                                          shape(ask->max_batch));
    if (!fits || config->addOptimizationProfile(profile) < 0)
        return failed(error, user,
                      "the network does not take the profile: its batch, height and width must be "
                      "dynamic or the same");
    if (ask->detailed) config->setProfilingVerbosity(ProfilingVerbosity::kDETAILED);
#if VC_FAMILY == 10
    if (weakly) config->setFlag(BuilderFlag::kFP16);
    Table table(ask->calibration, ask->calibration_size);
    if (ask->calibration) {
        config->setFlag(BuilderFlag::kINT8);
        config->setInt8Calibrator(&table);
    }
#else
    if (ask->half || ask->calibration)
        return failed(
            error, user,
            "from TensorRT 11 on, and in TensorRT-RTX, the precision is what the graph says");
#endif
#if VC_FAMILY == 1
    if (ask->capability_count > 0) {
        if (!config->setNbComputeCapabilities(ask->capability_count))
            return failed(error, user, "too many compute capabilities");
        for (int32_t i = 0; i < ask->capability_count; i++) {
            if (!config->setComputeCapability(static_cast<ComputeCapability>(ask->capabilities[i]),
                                              i)) {
                char text[120];
                snprintf(text, sizeof text,
                         "this TensorRT-RTX builds nothing for compute capability %d.%d",
                         ask->capabilities[i] / 10, ask->capabilities[i] % 10);
                return failed(error, user, text);
            }
        }
    }
#else
    if (ask->capability_count > 0)
        return failed(error, user,
                      "TensorRT builds for the GPU at hand alone; TensorRT-RTX builds for others");
#endif
#if VC_FAMILY != 1
    // What is of another version or another GPU is refused, and measured anew.
    timing.take(config->createTimingCache(ask->timings, ask->timings ? ask->timings_size : 0));
    if (!timing || !config->setTimingCache(*timing, false)) {
        timing.take(config->createTimingCache(nullptr, 0));
        if (timing) config->setTimingCache(*timing, false);
    }
#endif
    Progress progress(ask->progress, ask->progress_user);
    if (ask->progress) config->setProgressMonitor(&progress);

    Own<IHostMemory> memory(builder->buildSerializedNetwork(*network, *config));
    if (!memory) return failed(error, user, "TensorRT builds no engine of it");
    plan(user, static_cast<char const *>(memory->data()), memory->size());
#if VC_FAMILY != 1
    ITimingCache const *measured = config->getTimingCache();
    Own<IHostMemory> known(measured ? measured->serialize() : nullptr);
    if (known) timings(user, static_cast<char const *>(known->data()), known->size());
#endif
    return 1;
}

VcShim const table = {
    VC_SHIM_ABI,    NV_TENSORRT_MAJOR, NV_TENSORRT_MINOR, NV_TENSORRT_PATCH,
    logger,         runtime,           runtime_drop,      engine,
    engine_drop,    engine_tensors,    engine_tensor,     engine_profiles,
    engine_profile, engine_shape,      engine_memory,     engine_layers,
    engine_inspect, context,           context_drop,      context_profile,
    context_shape,  context_address,   context_enqueue,   build,
    kernels,        kernels_drop,      kernels_write,
};

} // namespace

extern "C" VcShim const *VC_TABLE(void) { return &table; }
