#include "haqa/plugin/device.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <memory>
#include <new>
#include <string>
#include <utility>

#include "haqa/plugin/buffers.h"
#include "haqa/plugin/graph.h"
#include "haqa/plugin/kernels.h"
#include "haqa/plugin/log.h"
#include "haqa/plugin/tuning.h"

namespace haqa {
namespace {

/// The folder that this module stands in.
std::filesystem::path module_folder() {
  Dl_info info = {};
  if (!dladdr(reinterpret_cast<const void*>(&module_folder), &info) || !info.dli_fname) return {};
  std::error_code error;
  const std::filesystem::path file = std::filesystem::canonical(info.dli_fname, error);
  return error ? std::filesystem::path() : file.parent_path();
}

constexpr const char* kName = "HAQA";

/// All that lives as long as the process: ggml keeps pointers to it.
struct Module {
  explicit Module(const std::filesystem::path& folder)
      : tuning(read_tuning(tuning_file(folder))), kernels(folder / "kernels", tuning) {}
  const Tuning tuning;
  Kernels kernels;
  ggml_backend_reg registry = {};
  ggml_backend_device device = {};
  ggml_backend_buffer_type plain = {}, weights = {};
  ggml_backend_buffer_type_t extra[2] = {};  ///< ends with null
};

Module& module_of(ggml_backend_dev_t device) {
  return *static_cast<Module*>(device->context);
}

// ---- the back end: one stream of graphs ----

GraphRunner& runner_of(ggml_backend_t backend) {
  return *static_cast<GraphRunner*>(backend->context);
}

ggml_guid_t guid() {
  static ggml_guid id = {0x48, 0x41, 0x51, 0x41, 0x2d, 0x67, 0x67, 0x6d,
                         0x6c, 0x2d, 0x63, 0x70, 0x75, 0x2d, 0x76, 0x31};
  return &id;
}

ggml_backend_t make_backend(ggml_backend_dev_t device, const char*) try {
  auto backend = std::make_unique<ggml_backend>();
  backend->guid = guid();
  backend->iface.get_name = [](ggml_backend_t) { return kName; };
  backend->iface.free = [](ggml_backend_t b) {
    delete &runner_of(b);
    delete b;
  };
  backend->iface.graph_compute = [](ggml_backend_t b, ggml_cgraph* graph) { return runner_of(b).compute(*graph); };
  backend->device = device;
  backend->context = std::make_unique<GraphRunner>(module_of(device).kernels).release();
  return backend.release();
} catch (const std::bad_alloc&) {
  return nullptr;
}

void set_threads(ggml_backend_t backend, int threads) {
  runner_of(backend).set_threads(threads);
}

void set_abort_callback(ggml_backend_t backend, ggml_abort_callback callback, void* data) {
  runner_of(backend).set_abort_callback(callback, data);
}

// ---- the device ----

ggml_backend_dev_t host_device() {
  return ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
}

/// The host's own memory: the processor's back end knows how much there is.
void get_memory(ggml_backend_dev_t, size_t* free, size_t* total) {
  ggml_backend_dev_memory(host_device(), free, total);
}

void get_properties(ggml_backend_dev_t device, ggml_backend_dev_props* properties) {
  *properties = {};
  properties->name = ggml_backend_dev_name(device);
  properties->description = ggml_backend_dev_description(device);
  properties->type = ggml_backend_dev_type(device);
  ggml_backend_dev_memory(device, &properties->memory_free, &properties->memory_total);
  properties->caps.mmap_support = true;  // weights are packed from the mapped file: no copy is read first
}

/// What a tensor's bytes lie in, those of a view in its owner's: a view has no buffer yet while a graph is planned.
ggml_backend_buffer_t buffer_of(const ggml_tensor* t) {
  return t->view_src ? t->view_src->buffer : t->buffer;
}

/// ggml asks whether weights may lie in a buffer type by a node whose weights are in an empty buffer of it.
bool is_weights(const ggml_tensor* t) {
  ggml_backend_buffer_t buffer = t ? buffer_of(t) : nullptr;
  return buffer && (ggml_backend_buffer_get_size(buffer) == 0 ||
                    ggml_backend_buffer_get_usage(buffer) == GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
}

bool takes_packed(const Module& module, const ggml_tensor& node) {
  return is_product(node) && !node.src[0]->view_src && module.kernels.of_weights(*node.src[0]);
}

bool is_in_packed_buffer(const Module& module, const ggml_tensor* t) {
  return t && buffer_of(t) && buffer_of(t)->buft == &module.weights;
}

/// Whether its bytes are not ggml's, or will not be: adapters, which llama.cpp puts beside the weights that they adapt,
/// are of types that no kernel packs. In a probe whatever is no matrix for a kernel is refused, so that it goes
/// elsewhere.
bool is_packed(const Module& module, const ggml_tensor* t) {
  if (!is_in_packed_buffer(module, t)) return false;
  return ggml_backend_buffer_get_size(buffer_of(t)) == 0 || packed_for(*t) ||
         module.kernels.of_weights(t->view_src ? *t->view_src : *t);
}

/// Matrices of weights are taken packed or not at all: stock code has its own ways of packing what there is no kernel
/// for. Whatever else ggml's CPU code computes works here too, as it is called for it, in the same memory; and what
/// computes nothing works on any bytes.
bool supports_node(const Module& module, const ggml_tensor* node) {
  if (ggml_op_is_empty(node->op)) return true;
  if (node->src[0] && is_packed(module, node->src[0])) return takes_packed(module, *node);
  for (const ggml_tensor* source : node->src)
    if (is_packed(module, source)) return false;
  if (test_switches().native_only) return is_native(module.kernels, *node);
  const bool is_matrix_product =
      node->op == GGML_OP_MUL_MAT || node->op == GGML_OP_MUL_MAT_ID || node->op == GGML_OP_GET_ROWS;
  if (is_matrix_product && is_weights(node->src[0]) && !is_in_packed_buffer(module, node->src[0])) return false;
  return is_native(module.kernels, *node) || ggml_backend_dev_supports_op(host_device(), node);
}

bool supports(ggml_backend_dev_t device, const ggml_tensor* node) try {
  return supports_node(module_of(device), node);
} catch (const std::bad_alloc&) {
  return false;
}

bool supports_buffers(ggml_backend_dev_t device, ggml_backend_buffer_type_t type) {
  return type == &module_of(device).weights || ggml_backend_buft_is_host(type);
}

void fill_device(Module& module) {
  ggml_backend_device_i& f = module.device.iface;
  f.get_name = [](ggml_backend_dev_t) { return kName; };
  f.get_description = [](ggml_backend_dev_t) { return "tuned kernels on the CPU"; };
  f.get_memory = get_memory;
  f.get_type = [](ggml_backend_dev_t) { return GGML_BACKEND_DEVICE_TYPE_GPU; };
  f.get_props = get_properties;
  f.init_backend = make_backend;
  f.get_buffer_type = [](ggml_backend_dev_t d) { return &module_of(d).plain; };
  f.supports_op = supports;
  f.supports_buft = supports_buffers;
  module.device.reg = &module.registry;
  module.device.context = &module;
  module.plain = make_plain_buffers(&module.device);
  module.weights = make_weight_buffers(&module.device, module.kernels);
  module.extra[0] = &module.weights;
}

// ---- the registry ----

ggml_backend_buffer_type_t* extra_buffers(ggml_backend_dev_t device) {
  return module_of(device).extra;
}

void* find_function(ggml_backend_reg_t, const char* name) {
  if (std::strcmp(name, "ggml_backend_set_n_threads") == 0) return reinterpret_cast<void*>(&set_threads);
  if (std::strcmp(name, "ggml_backend_set_abort_callback") == 0) return reinterpret_cast<void*>(&set_abort_callback);
  if (std::strcmp(name, "ggml_backend_dev_get_extra_bufts") == 0) return reinterpret_cast<void*>(&extra_buffers);
  return nullptr;
}

/// Whether the host's ggml numbers operations and lays out blocks as the one that this module was compiled with: the
/// version changes less often than these may.
bool has_same_numbers() {
  constexpr std::pair<ggml_op, const char*> kOperations[] = {
      {GGML_OP_NONE, "NONE"},         {GGML_OP_DUP, "DUP"},           {GGML_OP_ADD, "ADD"},
      {GGML_OP_MUL, "MUL"},           {GGML_OP_RMS_NORM, "RMS_NORM"}, {GGML_OP_MUL_MAT, "MUL_MAT"},
      {GGML_OP_CPY, "CPY"},           {GGML_OP_CONT, "CONT"},         {GGML_OP_GET_ROWS, "GET_ROWS"},
      {GGML_OP_SET_ROWS, "SET_ROWS"}, {GGML_OP_ROPE, "ROPE"},         {GGML_OP_FLASH_ATTN_EXT, "FLASH_ATTN_EXT"},
      {GGML_OP_UNARY, "UNARY"},       {GGML_OP_GLU, "GLU"},           {GGML_OP_MUL_MAT_ID, "MUL_MAT_ID"}};
  constexpr std::pair<ggml_type, size_t> kBlocks[] = {
      {GGML_TYPE_F32, 4},   {GGML_TYPE_F16, 2},    {GGML_TYPE_BF16, 2},   {GGML_TYPE_Q8_0, 34},
      {GGML_TYPE_Q4_0, 18}, {GGML_TYPE_Q4_K, 144}, {GGML_TYPE_Q6_K, 210}, {GGML_TYPE_IQ4_NL, 18}};
  return std::all_of(std::begin(kOperations), std::end(kOperations),
                     [](const auto& o) { return std::strcmp(ggml_op_name(o.first), o.second) == 0; }) &&
         std::all_of(std::begin(kBlocks), std::end(kBlocks),
                     [](const auto& b) { return ggml_type_size(b.first) == b.second; });
}

/// Why this module had better leave everything to others; empty where it can serve.
std::string reason_not_to_serve(const Module& module) {
  if (const std::string& version = test_switches().ggml_version; version != ggml_version())
    return "this module is for ggml " + version + ", not " + ggml_version();
  if (!has_same_numbers()) return std::string("this is another ggml ") + ggml_version() + " than the module is for";
  for (size_t i = 0; i < ggml_backend_dev_count(); ++i) {
    ggml_backend_dev_t other = ggml_backend_dev_get(i);
    if (std::strcmp(ggml_backend_dev_name(other), kName) == 0) return "another one of these modules is loaded";
    const auto type = ggml_backend_dev_type(other);
    if (type == GGML_BACKEND_DEVICE_TYPE_GPU || type == GGML_BACKEND_DEVICE_TYPE_IGPU)
      return std::string("there is a faster device, ") + ggml_backend_dev_name(other);
  }
  if (!host_device()) return "ggml's CPU back end is not loaded";
  if (!module.kernels.has_products()) return "no compiled kernel in " + module_folder().string() + "/kernels runs here";
  return {};
}

bool is_registered(const Module& module) {
  for (size_t i = 0; i < ggml_backend_dev_count(); ++i)
    if (ggml_backend_dev_get(i) == &module.device) return true;
  return false;
}

}  // namespace

ggml_backend_reg_t registry() {
  static Module& module = *new Module(module_folder());  // never destroyed: hosts free what is in it as they exit
  if (module.registry.api_version == 0) {
    module.registry.api_version = GGML_BACKEND_API_VERSION;
    module.registry.context = &module;
    module.registry.iface.get_name = [](ggml_backend_reg_t) { return kName; };
    module.registry.iface.get_device_count = [](ggml_backend_reg_t) { return size_t{1}; };
    module.registry.iface.get_device = [](ggml_backend_reg_t r, size_t) {
      return &static_cast<Module*>(r->context)->device;
    };
    module.registry.iface.get_proc_address = find_function;
    fill_device(module);
  }
  if (is_registered(module)) return nullptr;  // loaded again, as llama-server does with some options
  // Asked each time: a second copy of the module finds the first.
  if (const std::string reason = reason_not_to_serve(module); !reason.empty()) {
    log_warning(reason + "; stock code serves");
    return nullptr;
  }
  return &module.registry;
}

}  // namespace haqa
