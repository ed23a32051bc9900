// A stand-in for NVIDIA's TensorRT, for tests: see lib.rs. Compiled against the real headers, once
// for each family.
//
// A plan keeps shapes and no network. It makes of a picture what the scripted engine makes: each
// cell is the mean of its red samples, divided by 255. Memory, contexts and streams are those of
// the stand-in driver (libcuda.so.1 in tests/gpu-sim), whose device memory can be read at its own
// addresses; a real GPU's cannot, so this ends the process there.
//
// Where TensorRT's documentation asks for something (a current CUDA context, an order of deletion,
// a shape before a run), this insists.

#include <dlfcn.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <sstream>
#include <string>
#include <tuple>

#define VC_MISSING(name)                                                                           \
    (fprintf(stderr, "stand-in for TensorRT: %s is not simulated\n", name), abort())

#include <NvInfer.h>
#include <NvOnnxParser.h>

#include "missing.h"

#define API extern "C" __attribute__((visibility("default")))

using namespace nvinfer1;

namespace {

int const VERSION = NV_TENSORRT_MAJOR * 10000 + NV_TENSORRT_MINOR * 100 + NV_TENSORRT_PATCH;
char const *const MAGIC = "simulated plan";

// ---- what a test steers ----

char const *const KINDS[] = {"parse",   "build", "load", "context", "shape",
                             "enqueue", "nan",   "hang", "format"};
std::mutex mutex;
std::map<std::string, long> faults;
enum Figure {
    RUNTIMES,
    ENGINES,
    CONTEXTS,
    BUILDERS,
    LOADS,
    BUILDS,
    RUNS,
    IMAGES,
    WARM_BUILDS,
    COMPILED,
    FIGURES
};
std::atomic<long> figures[FIGURES];
// Builds go on until this is taken back, or they are ended.
std::atomic<bool> held;

// Whether this is the call that is to fail. VEHICLECOUNT_SIM_TENSORRT=enqueue:3,load:1 says so to
// other processes.
bool fails(char const *kind) {
    std::lock_guard<std::mutex> lock(mutex);
    static bool const read = [] {
        char const *text = getenv("VEHICLECOUNT_SIM_TENSORRT");
        std::istringstream all(text ? text : "");
        for (std::string one; std::getline(all, one, ',');) {
            size_t colon = one.find(':');
            faults[one.substr(0, colon)] =
                colon == std::string::npos ? 1 : atol(one.c_str() + colon + 1);
        }
        return true;
    }();
    (void)read;
    auto at = faults.find(kind);
    return at != faults.end() && at->second > 0 && --at->second == 0;
}

void say(ILogger *logger, char const *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    logger->log(ILogger::Severity::kERROR, text);
}

// ---- the driver ----

struct Driver {
    int (*current)(void **) = nullptr;
    int (*device)(int *) = nullptr;
    int (*attribute)(int *, int, int) = nullptr;
    int (*allocate)(uintptr_t *, size_t) = nullptr;
    int (*release)(uintptr_t) = nullptr;
    int (*launch)(void *, void (*)(void *), void *) = nullptr;
    int (*capturing)(void *, int *) = nullptr;

    Driver() {
        void *library = dlopen("libcuda.so.1", RTLD_NOW);
        if (!library) return;
        auto find = [&](auto &to, char const *name) {
            to = reinterpret_cast<std::decay_t<decltype(to)>>(dlsym(library, name));
        };
        find(current, "cuCtxGetCurrent");
        find(device, "cuCtxGetDevice");
        find(attribute, "cuDeviceGetAttribute");
        find(allocate, "cuMemAlloc_v2");
        find(release, "cuMemFree_v2");
        find(launch, "cuLaunchHostFunc");
        find(capturing, "cuStreamIsCapturing");
        if (!dlsym(library, "sim_figure")) {
            fprintf(
                stderr,
                "stand-in for TensorRT: there is a real GPU here, whose memory it cannot read\n");
            abort();
        }
    }

    // The compute capability of the current context's GPU; 0 without one.
    int capability() const {
        void *context = nullptr;
        int which = 0, major = 0, minor = 0;
        if (!current || current(&context) || !context || device(&which)) return 0;
        if (attribute(&major, 75, which) || attribute(&minor, 76, which)) return 0;
        return major * 10 + minor;
    }
};

Driver const &driver() {
    static Driver const it;
    return it;
}

// Memory of the device, so that leaks and its exhaustion show.
class DeviceMemory {
public:
    bool take(size_t bytes) {
        return driver().allocate && driver().allocate(&mAddress, bytes) == 0;
    }
    ~DeviceMemory() {
        if (mAddress) driver().release(mAddress);
    }

private:
    uintptr_t mAddress = 0;
};

// ---- plans ----

struct Shapes {
    std::string input, output;
    int64_t channels = 3, height = 0, width = 0, rows = 0, columns = 0, least = 1, most = 1;
    bool quantized = false;

    std::string write(std::string const &capabilities) const {
        std::ostringstream text;
        text << MAGIC << '\n'
             << VERSION << ' ' << VC_RTX << ' ' << capabilities << '\n'
             << input << '\n'
             << output << '\n';
        text << channels << ' ' << height << ' ' << width << ' ' << rows << ' ' << columns << ' '
             << least << ' ' << most << ' ' << quantized << '\n';
        return text.str();
    }
};

class Memory final : public IHostMemory {
public:
    explicit Memory(std::string bytes) {
        mBody.bytes = std::move(bytes);
        mImpl = &mBody;
    }

private:
    struct Body : apiv::MissingVHostMemory {
        std::string bytes;
        void *data() const noexcept override { return const_cast<char *>(bytes.data()); }
        std::size_t size() const noexcept override { return bytes.size(); }
    } mBody;
};

// ---- what is kept between runs ----

// What a cache begins with: this library, and the GPU at hand.
std::string environment(char const *what) {
    return std::string(what) + ' ' + std::to_string(VERSION) + ' ' +
           std::to_string(driver().capability()) + '\n';
}

class TimingCache final : public ITimingCache {
public:
    explicit TimingCache(std::string bytes) {
        mImpl = &body;
        body.bytes = std::move(bytes);
    }
    struct Body : apiv::MissingVTimingCache {
        std::string bytes;
        IHostMemory *serialize() const noexcept override { return new Memory(bytes); }
    } body;
};

#if VC_RTX
class RuntimeCache final : public IRuntimeCache {
public:
    RuntimeCache() { mImpl = &body; }
    ~RuntimeCache() noexcept override {
        if (body.users) VC_MISSING("a runtime cache deleted before its contexts");
    }
    struct Body : apiv::MissingVRuntimeCache {
        std::mutex lock;
        std::set<int64_t> batches;
        std::atomic<long> users{0};
        IHostMemory *serialize() const noexcept override {
            std::lock_guard<std::mutex> guard(const_cast<std::mutex &>(lock));
            std::string text = environment("simulated kernels");
            for (int64_t batch : batches) text += std::to_string(batch) + ' ';
            return new Memory(text);
        }
        bool deserialize(void const *blob, size_t size) noexcept override {
            std::string const text(static_cast<char const *>(blob), size),
                head = environment("simulated kernels");
            if (text.compare(0, head.size(), head)) return false;
            std::lock_guard<std::mutex> guard(lock);
            std::istringstream all(text.substr(head.size()));
            for (int64_t batch; all >> batch;) batches.insert(batch);
            return true;
        }
        // Compiles where there is nothing.
        void need(int64_t batch) {
            std::lock_guard<std::mutex> guard(lock);
            if (batches.insert(batch).second) figures[COMPILED]++;
        }
    } body;
};
#endif

// ---- contexts ----

// One run, which a graph may repeat: kept as long as its context.
struct Run {
    Shapes const *shapes;
    float const *input;
    float *output;
    int64_t batch;
    static void work(void *data) {
        Run const &run = *static_cast<Run *>(data);
        Shapes const &s = *run.shapes;
        bool const nan = fails("nan");
        int64_t const high = s.height / s.rows, wide = s.width / s.columns;
        for (int64_t image = 0; image < run.batch; image++) {
            float const *red = run.input + image * s.channels * s.height * s.width;
            float *cells = run.output + image * s.rows * s.columns;
            for (int64_t cell = 0; cell < s.rows * s.columns; cell++) {
                int64_t const top = cell / s.columns * high, left = cell % s.columns * wide;
                float sum = 0;
                for (int64_t y = top; y < top + high; y++)
                    for (int64_t x = left; x < left + wide; x++) sum += red[y * s.width + x];
                cells[cell] = nan ? NAN : sum / static_cast<float>(high * wide) / 255.0f;
            }
        }
        figures[RUNS]++;
        figures[IMAGES] += run.batch;
    }
};

class Context final : public IExecutionContext {
public:
    Context(Shapes const *shapes, ILogger *logger, std::atomic<long> *users) {
        mImpl = &mBody;
        mBody.shapes = shapes;
        mBody.logger = logger;
        mBody.users = users;
        (*users)++;
        figures[CONTEXTS]++;
    }
    ~Context() noexcept override {
#if VC_RTX
        if (mBody.cache) mBody.cache->body.users--;
#endif
        (*mBody.users)--;
        figures[CONTEXTS]--;
    }
#if VC_RTX
    void use(RuntimeCache *cache) {
        mBody.cache = cache;
        if (cache) cache->body.users++;
    }
#endif
    bool take() { return mBody.memory = mBody.scratch.take(64 << 10); }

private:
    struct Body : apiv::MissingVExecutionContext {
        Shapes const *shapes;
        ILogger *logger;
        std::atomic<long> *users;
        DeviceMemory scratch;
        int64_t batch = 0;
        void *input = nullptr, *output = nullptr;
        // It has scratch memory; a graph was recorded from it.
        bool memory = false, recorded = false;
#if VC_RTX
        RuntimeCache *cache = nullptr;
#endif
        std::map<std::tuple<int64_t, void *, void *>, std::unique_ptr<Run>> runs;

        bool setOptimizationProfileAsync(int32_t index, cudaStream_t) noexcept override {
            return index == 0;
        }
        bool setInputShape(char const *name, Dims const &dims) noexcept override {
            if (fails("shape")) return say(logger, "simulated: the shape is refused"), false;
            bool const right = name == shapes->input && dims.nbDims == 4 &&
                               dims.d[1] == shapes->channels && dims.d[2] == shapes->height &&
                               dims.d[3] == shapes->width && dims.d[0] >= shapes->least &&
                               dims.d[0] <= shapes->most;
            if (!right) return say(logger, "simulated: the shape does not suit the profile"), false;
            if (recorded && dims.d[0] != batch)
                return say(logger,
                           "simulated: a context from which a graph was recorded is changed"),
                       false;
            batch = dims.d[0];
            return true;
        }
        Dims getTensorShape(char const *name) const noexcept override {
            if (name == shapes->output)
                return Dims4{batch ? batch : -1, 1, shapes->rows, shapes->columns};
            if (name == shapes->input)
                return Dims4{batch ? batch : -1, shapes->channels, shapes->height, shapes->width};
            Dims none{};
            none.nbDims = -1;
            return none;
        }
        bool setTensorAddress(char const *name, void *data) noexcept override {
            if (!data || reinterpret_cast<uintptr_t>(data) % 256)
                return say(logger, "simulated: the address %p is not aligned to 256 bytes", data),
                       false;
            if (name == shapes->input) return input = data, true;
            if (name == shapes->output) return output = data, true;
            return false;
        }
        void setDeviceMemory(void *given) noexcept override {
            memory = given && reinterpret_cast<uintptr_t>(given) % 256 == 0;
        }
        void setDeviceMemoryV2(void *given, int64_t size) noexcept override {
            memory = given && reinterpret_cast<uintptr_t>(given) % 256 == 0 && size >= 64 << 10;
        }
        bool enqueueV3(cudaStream_t stream) noexcept override {
            if (!batch || !input || !output)
                return say(logger, "simulated: a run before its shape and its addresses"), false;
            if (!driver().capability())
                return say(logger, "simulated: a run with no current CUDA context"), false;
            if (!memory) return say(logger, "simulated: a run with no scratch memory"), false;
            int recording = 0;
            driver().capturing(stream, &recording);
            recorded = recorded || recording;
            if (fails("enqueue")) return say(logger, "simulated: the run fails"), false;
#if VC_RTX
            if (cache) cache->body.need(batch);
#endif
            auto &run = runs[{batch, input, output}];
            if (!run)
                run.reset(new Run{shapes, static_cast<float const *>(input),
                                  static_cast<float *>(output), batch});
            int const code = driver().launch(stream, Run::work, run.get());
            if (code) say(logger, "simulated: Cuda Driver (error %d)", code);
            return code == 0;
        }
    } mBody;
};

// ---- engines ----

class Inspector final : public IEngineInspector {
public:
    explicit Inspector(Shapes const *shapes) {
        std::string const kind = shapes->quantized ? "Int8" : "Float";
        mBody.json = "{\"Layers\": [{\"Name\": \"mean of red\", \"LayerType\": \"Simulated\", "
                     "\"Inputs\": [{\"Name\": \"" +
                     shapes->input +
                     "\", \"Dimensions\": [1, 3, 1, 1], \"Format/Datatype\": \"Row major linear "
                     "FP32\"}], \"Outputs\": [{\"Name\": \"" +
                     shapes->output + "\", \"Format/Datatype\": \"" + kind +
                     "\"}]}], \"Bindings\": [\"" + shapes->input + "\", \"" + shapes->output +
                     "\"]}";
        mImpl = &mBody;
    }

private:
    struct Body : apiv::MissingVEngineInspector {
        std::string json;
        char const *getEngineInformation(LayerInformationFormat) const noexcept override {
            return json.c_str();
        }
    } mBody;
};

#if VC_RTX
class RuntimeConfig final : public IRuntimeConfig {
public:
    RuntimeConfig() { mImpl = &body; }
    ~RuntimeConfig() noexcept override = default;
    struct Body : apiv::MissingVRuntimeConfig {
        ExecutionContextAllocationStrategy strategy = ExecutionContextAllocationStrategy::kSTATIC;
        bool eager = false;
        RuntimeCache *cache = nullptr;
        IRuntimeCache *createRuntimeCache() const noexcept override { return new RuntimeCache; }
        bool setRuntimeCache(IRuntimeCache const &given) noexcept override {
            return cache = const_cast<RuntimeCache *>(static_cast<RuntimeCache const *>(&given)),
                   true;
        }
        void setExecutionContextAllocationStrategy(
            ExecutionContextAllocationStrategy given) noexcept override {
            strategy = given;
        }
        void setDynamicShapesKernelSpecializationStrategy(
            DynamicShapesKernelSpecializationStrategy given) noexcept override {
            eager = given == DynamicShapesKernelSpecializationStrategy::kEAGER;
        }
    } body;
};
#endif

class Engine final : public ICudaEngine {
public:
    Engine(Shapes shapes, ILogger *logger, std::atomic<long> *users) {
        mImpl = &mBody;
        mBody.shapes = std::move(shapes);
        mBody.logger = logger;
        mUsers = users;
        (*users)++;
        figures[ENGINES]++;
    }
    ~Engine() noexcept override {
        if (mBody.contexts) VC_MISSING("an engine deleted before its contexts");
        (*mUsers)--;
        figures[ENGINES]--;
    }
    bool take() { return mBody.weights.take(1 << 20); }

private:
    std::atomic<long> *mUsers;
    struct Body : apiv::MissingVCudaEngine {
        Shapes shapes;
        ILogger *logger;
        DeviceMemory weights;
        std::atomic<long> contexts{0};

        int32_t getNbLayers() const noexcept override { return 1; }
        int32_t getNbIOTensors() const noexcept override { return 2; }
        char const *getIOTensorName(int32_t index) const noexcept override {
            return (index ? shapes.output : shapes.input).c_str();
        }
        TensorIOMode getTensorIOMode(char const *name) const noexcept override {
            return name == shapes.input    ? TensorIOMode::kINPUT
                   : name == shapes.output ? TensorIOMode::kOUTPUT
                                           : TensorIOMode::kNONE;
        }
        DataType getTensorDataType(char const *) const noexcept override {
            return DataType::kFLOAT;
        }
        TensorFormat getTensorFormat(char const *) const noexcept override {
            return fails("format") ? TensorFormat::kCHW4 : TensorFormat::kLINEAR;
        }
        Dims getTensorShape(char const *name) const noexcept override {
            return name == shapes.input ? Dims4{-1, shapes.channels, -1, -1} : Dims4{-1, 1, -1, -1};
        }
        int32_t getNbOptimizationProfiles() const noexcept override { return 1; }
        Dims getProfileShape(char const *name, int32_t profile,
                             OptProfileSelector which) const noexcept override {
            if (name != shapes.input || profile != 0) {
                Dims none{};
                none.nbDims = -1;
                return none;
            }
            return Dims4{which == OptProfileSelector::kMIN ? shapes.least : shapes.most,
                         shapes.channels, shapes.height, shapes.width};
        }
        size_t getDeviceMemorySize() const noexcept
#if NV_TENSORRT_MAJOR == 10
            override
#endif
        {
            return 64 << 10;
        }
        int64_t getDeviceMemorySizeV2() const noexcept override { return 64 << 10; }
        IEngineInspector *createEngineInspector() const noexcept override {
            return new Inspector(&shapes);
        }
#if VC_RTX
        IRuntimeConfig *createRuntimeConfig() noexcept override { return new RuntimeConfig; }
        IExecutionContext *
        createExecutionContextWithRuntimeConfig(IRuntimeConfig *config) noexcept override {
            auto &body = static_cast<RuntimeConfig *>(config)->body;
            IExecutionContext *made = createExecutionContext(body.strategy);
            if (made) static_cast<Context *>(made)->use(body.cache);
            return made;
        }
#endif
        IExecutionContext *
        createExecutionContext(ExecutionContextAllocationStrategy strategy) noexcept override {
            bool const bare = strategy == ExecutionContextAllocationStrategy::kUSER_MANAGED;
            if (!bare && fails("context")) return say(logger, "simulated: no context"), nullptr;
            std::unique_ptr<Context> made(new Context(&shapes, logger, &contexts));
            if (!bare && !made->take())
                return say(logger, "simulated: Requested amount of GPU memory (65536 bytes) could "
                                   "not be allocated"),
                       nullptr;
            return made.release();
        }
    } mBody;
};

class Runtime final : public IRuntime {
public:
    explicit Runtime(ILogger *logger) {
        mImpl = &mBody;
        mBody.logger = logger;
        figures[RUNTIMES]++;
    }
    ~Runtime() noexcept override {
        if (mBody.engines) VC_MISSING("a runtime deleted before its engines");
        figures[RUNTIMES]--;
    }

private:
    struct Body : apiv::MissingVRuntime {
        ILogger *logger;
        std::atomic<long> engines{0};
        ICudaEngine *deserializeCudaEngine(void const *blob, std::size_t size) noexcept override {
            figures[LOADS]++;
            if (fails("load")) return say(logger, "simulated: the plan does not load"), nullptr;
            std::istringstream text(std::string(static_cast<char const *>(blob), size));
            std::string magic, capabilities;
            int version = 0, rtx = 0;
            Shapes s;
            std::getline(text, magic);
            text >> version >> rtx >> capabilities >> s.input >> s.output >> s.channels >>
                s.height >> s.width >> s.rows >> s.columns >> s.least >> s.most >> s.quantized;
            if (magic != MAGIC || !text || rtx != VC_RTX)
                return say(logger, "simulated: not a plan of this library"), nullptr;
            if (version != VERSION)
                return say(logger, "simulated: the plan is of version %d, and this is %d", version,
                           VERSION),
                       nullptr;
            int const here = driver().capability();
            if (!here) return say(logger, "simulated: no current CUDA context"), nullptr;
            if (("," + capabilities + ",").find("," + std::to_string(here) + ",") ==
                std::string::npos)
                return say(logger,
                           "simulated: the plan is for compute capability %s, and this GPU has %d",
                           capabilities.c_str(), here),
                       nullptr;
            std::unique_ptr<Engine> made(new Engine(s, logger, &engines));
            if (!made->take())
                return say(logger, "simulated: Requested amount of GPU memory (1048576 bytes) "
                                   "could not be allocated"),
                       nullptr;
            return made.release();
        }
    } mBody;
};

// ---- building ----

class Tensor final : public ITensor {
public:
    explicit Tensor(std::string const *name) {
        mImpl = &mBody;
        mBody.name = name;
    }
    ~Tensor() noexcept override = default;

private:
    struct Body : apiv::MissingVTensor {
        std::string const *name;
        char const *getName() const noexcept override { return name->c_str(); }
    } mBody;
};

class Network final : public INetworkDefinition {
public:
    explicit Network(uint32_t flags) : flags(flags) { mImpl = &mBody; }
    ~Network() noexcept override = default;
    uint32_t const flags;
    Shapes &shapes() { return mBody.shapes; }
    // Of the output: cells are so many pixels wide and high.
    int64_t stride = 8;

private:
    struct Body : apiv::MissingVNetworkDefinition {
        Shapes shapes;
        mutable Tensor input{&shapes.input}, output{&shapes.output};
        int32_t getNbInputs() const noexcept override { return !shapes.input.empty(); }
        int32_t getNbOutputs() const noexcept override { return !shapes.output.empty(); }
        ITensor *getInput(int32_t) const noexcept override { return &input; }
        ITensor *getOutput(int32_t) const noexcept override { return &output; }
    } mBody;
};

// The few fields of ONNX that are needed, read as protobuf.
class Proto {
public:
    Proto(void const *data, size_t size)
        : mAt(static_cast<uint8_t const *>(data)), mEnd(mAt + size) {}
    bool next() {
        if (mAt >= mEnd || mBroken) return false;
        uint64_t const key = number();
        field = key >> 3;
        switch (key & 7) {
        case 0:
            value = number();
            break;
        case 1:
            skip(8);
            break;
        case 2:
            length = number();
            bytes = mAt;
            skip(length);
            break;
        case 5:
            skip(4);
            break;
        default:
            mBroken = true;
        }
        return !mBroken;
    }
    bool broken() const { return mBroken; }
    std::string text() const { return std::string(reinterpret_cast<char const *>(bytes), length); }
    Proto inside() const { return Proto(bytes, length); }
    uint64_t field = 0, value = 0, length = 0;
    uint8_t const *bytes = nullptr;

private:
    uint64_t number() {
        uint64_t result = 0;
        for (int shift = 0; shift < 64; shift += 7) {
            if (mAt >= mEnd) return mBroken = true, 0;
            uint8_t const byte = *mAt++;
            result |= static_cast<uint64_t>(byte & 127) << shift;
            if (byte < 128) return result;
        }
        return mBroken = true, 0;
    }
    void skip(uint64_t count) {
        if (count > static_cast<uint64_t>(mEnd - mAt))
            mBroken = true;
        else
            mAt += count;
    }
    uint8_t const *mAt, *mEnd;
    bool mBroken = false;
};

class ParserError final : public nvonnxparser::MissingIParserError {
public:
    std::string text;
    char const *desc() const override { return text.c_str(); }
    int node() const override { return -1; }
};

class Parser final : public nvonnxparser::MissingIParser {
public:
    Parser(Network *network, ILogger *logger) : mNetwork(network), mLogger(logger) {}
    bool parse(void const *data, size_t size, char const *) noexcept override {
        if (fails("parse")) return refuse("simulated: the parser fails");
        bool graph = false;
        Proto model(data, size);
        while (model.next()) {
            if (model.field != 7) continue;
            graph = true;
            Proto inside = model.inside();
            while (inside.next()) {
                // NodeProto: its operator. ValueInfoProto: a tensor of the graph's face.
                if (inside.field == 1) {
                    for (Proto node = inside.inside(); node.next();)
                        if (node.field == 4 && node.text() == "QuantizeLinear")
                            mNetwork->shapes().quantized = true;
                } else if (inside.field == 11 || inside.field == 12) {
                    for (Proto info = inside.inside(); info.next();)
                        if (info.field == 1)
                            (inside.field == 11 ? mNetwork->shapes().input
                                                : mNetwork->shapes().output) = info.text();
                }
            }
            if (inside.broken()) return refuse("simulated: the graph is cut off");
        }
        if (model.broken() || !graph) return refuse("simulated: not an ONNX file");
        return true;
    }
    int getNbErrors() const noexcept override { return !mError.text.empty(); }
    nvonnxparser::IParserError const *getError(int) const noexcept override { return &mError; }

private:
    bool refuse(char const *why) {
        mError.text = why;
        say(mLogger, "%s", why);
        return false;
    }
    Network *mNetwork;
    ILogger *mLogger;
    ParserError mError;
};

class Profile final : public IOptimizationProfile {
public:
    Profile() { mImpl = &body; }
    ~Profile() noexcept override = default;
    struct Body : apiv::MissingVOptimizationProfile {
        Dims shapes[3] = {};
        bool setDimensions(char const *, OptProfileSelector which,
                           Dims const &dims) noexcept override {
            return shapes[static_cast<int>(which)] = dims, dims.nbDims == 4 && dims.d[1] == 3;
        }
    } body;
};

class Config final : public IBuilderConfig {
public:
    Config() { mImpl = &body; }
    struct Body : apiv::MissingVBuilderConfig {
        Profile const *profile = nullptr;
        IProgressMonitor *monitor = nullptr;
        std::string capabilities;
        bool table = false;
        TimingCache const *timings = nullptr;
        ITimingCache *createTimingCache(void const *blob,
                                        std::size_t size) const noexcept override {
            return new TimingCache(std::string(static_cast<char const *>(blob), size));
        }
        bool setTimingCache(ITimingCache const &given, bool) noexcept override {
            auto const &cache = static_cast<TimingCache const &>(given);
            std::string const &bytes = cache.body.bytes, head = environment("simulated timings");
            if (!bytes.empty() && bytes.compare(0, head.size(), head)) return false;
            return timings = &cache, true;
        }
        ITimingCache const *getTimingCache() const noexcept override { return timings; }
        int32_t addOptimizationProfile(IOptimizationProfile const *given) noexcept override {
            return profile = static_cast<Profile const *>(given), 0;
        }
        void setMemoryPoolLimit(MemoryPoolType, std::size_t) noexcept override {}
        void setProfilingVerbosity(ProfilingVerbosity) noexcept override {}
        void setProgressMonitor(IProgressMonitor *given) noexcept override { monitor = given; }
        void setFlag(BuilderFlag) noexcept override {}
#if NV_TENSORRT_MAJOR == 10
        void setInt8Calibrator(IInt8Calibrator *calibrator) noexcept override {
            std::size_t length = 0;
            void const *data = calibrator->readCalibrationCache(length);
            table = data && length > 4 && !memcmp(data, "TRT-", 4);
        }
#endif
#if VC_RTX
        bool setNbComputeCapabilities(int32_t) noexcept override { return true; }
        bool setComputeCapability(ComputeCapability capability, int32_t) noexcept override {
            int const number = static_cast<int>(capability);
            if (number == 90) return false;
            capabilities += (capabilities.empty() ? "" : ",") + std::to_string(number);
            return true;
        }
#endif
    } body;
};

class Builder final : public IBuilder {
public:
    explicit Builder(ILogger *logger) {
        mImpl = &mBody;
        mBody.logger = logger;
        figures[BUILDERS]++;
    }
    ~Builder() noexcept override { figures[BUILDERS]--; }

private:
    struct Body : apiv::MissingVBuilder {
        ILogger *logger;
        Profile profile;
        INetworkDefinition *
        createNetworkV2(NetworkDefinitionCreationFlags flags) noexcept override {
            return new Network(flags);
        }
        IBuilderConfig *createBuilderConfig() noexcept override { return new Config; }
        IOptimizationProfile *createOptimizationProfile() noexcept override { return &profile; }
        IHostMemory *buildSerializedNetwork(INetworkDefinition &given,
                                            IBuilderConfig &with) noexcept override {
            figures[BUILDS]++;
            auto &network = static_cast<Network &>(given);
            auto &config = static_cast<Config &>(with).body;
            if (config.monitor) {
                config.monitor->phaseStart("Building engine", nullptr, 3);
                for (int step = 0; step < 3; step++)
                    if (!config.monitor->stepComplete("Building engine", step))
                        return say(logger, "simulated: Build canceled by user"), nullptr;
                while (held) {
                    if (!config.monitor->stepComplete("Building engine", 2))
                        return say(logger, "simulated: Build canceled by user"), nullptr;
                    usleep(1000);
                }
                config.monitor->phaseFinish("Building engine");
            }
            if (fails("build")) return say(logger, "simulated: the build fails"), nullptr;
            if (fails("hang"))
                for (;;) dlerror();
            std::string const here = std::to_string(driver().capability());
            std::string const capabilities =
                config.capabilities.empty() ? here : config.capabilities;
            if (capabilities == "0")
                return say(logger, "simulated: no current CUDA context to build for"), nullptr;
            if (config.timings) {
                std::string &bytes = const_cast<TimingCache *>(config.timings)->body.bytes;
                if (bytes.empty())
                    bytes = environment("simulated timings");
                else
                    figures[WARM_BUILDS]++;
            }
            Shapes shapes = network.shapes();
            Dims const &least = config.profile->body.shapes[0],
                       &most = config.profile->body.shapes[2];
            shapes.least = least.d[0], shapes.most = most.d[0], shapes.height = most.d[2],
            shapes.width = most.d[3];
            shapes.rows = shapes.height / network.stride,
            shapes.columns = shapes.width / network.stride;
            return new Memory(shapes.write(capabilities));
        }
    } mBody;
};

} // namespace

// ---- TensorRT's entry points ----

API int32_t getInferLibVersion() noexcept {
    char const *text = getenv("VEHICLECOUNT_SIM_TENSORRT_VERSION");
    return text ? atoi(text) : VERSION;
}

API void *createInferRuntime_INTERNAL(void *logger, int32_t version) noexcept {
    if (version != getInferLibVersion())
        return say(static_cast<ILogger *>(logger), "simulated: called as version %d", version),
               nullptr;
    return static_cast<IRuntime *>(new Runtime(static_cast<ILogger *>(logger)));
}

API void *createInferBuilder_INTERNAL(void *logger, int32_t version) noexcept {
    if (version != getInferLibVersion())
        return say(static_cast<ILogger *>(logger), "simulated: called as version %d", version),
               nullptr;
    return static_cast<IBuilder *>(new Builder(static_cast<ILogger *>(logger)));
}

API int32_t getNvOnnxParserVersion() noexcept { return VERSION; }

API void *createNvOnnxParser_INTERNAL(void *network, void *logger, int32_t) noexcept {
    auto *to = static_cast<Network *>(static_cast<INetworkDefinition *>(network));
    return static_cast<nvonnxparser::IParser *>(new Parser(to, static_cast<ILogger *>(logger)));
}

// ---- for tests ----

// The `nth` call of that kind from now fails; 0 takes that back.
API void sim_tensorrt_fail(int kind, long nth) {
    std::lock_guard<std::mutex> lock(mutex);
    faults[KINDS[kind]] = nth;
}

// Whether builds go on until this is taken back.
API void sim_tensorrt_hold(int hold) { held = hold != 0; }

API long sim_tensorrt_figure(int which) { return figures[which]; }
