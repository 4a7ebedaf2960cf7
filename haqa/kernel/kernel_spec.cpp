#include "haqa/kernel/kernel_spec.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/file_name.h"
#include "haqa/base/text.h"
#include "haqa/kernel/reference.h"
#include "haqa/space/space_file.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;

struct TypeFacts {
  ElementType type;
  std::string_view name;
  int64_t block, bytes;
};
constexpr std::array<TypeFacts, 9> kTypes = {{{ElementType::f32, "F32", 1, 4},
                                              {ElementType::i32, "I32", 1, 4},
                                              {ElementType::f16, "F16", 1, 2},
                                              {ElementType::q8_0, "Q8_0", 32, 34},
                                              {ElementType::q4_0, "Q4_0", 32, 18},
                                              {ElementType::bf16, "BF16", 1, 2},
                                              {ElementType::q4_k, "Q4_K", 256, 144},
                                              {ElementType::q6_k, "Q6_K", 256, 210},
                                              {ElementType::iq4_nl, "IQ4_NL", 32, 18}}};

const TypeFacts& facts(ElementType type) {
  return kTypes[static_cast<size_t>(type)];
}

/// A member of a specification; says where it should be if it is not there.
const Json& need(const Json& object, const char* key) {
  if (!object.is_object() || !object.contains(key)) throw UsageError("{} is missing", key);
  return object.at(key);
}

template <typename T>
T need_as(const Json& object, const char* key) {
  try {
    return need(object, key).get<T>();
  } catch (const Json::exception&) {
    throw UsageError("{} is of the wrong type: {}", key, one_line(object.at(key).dump(), 60));
  }
}

KernelArgument read_argument(const Json& json) {
  KernelArgument a;
  a.name = need_as<std::string>(json, "Name");
  const auto type = need_as<std::string>(json, "Type");
  a.is_weights = type == "weights";
  if (type != "float" && type != "int32" && type != "half" && !a.is_weights)
    throw UsageError("argument {}: Type is {}; it must be float, half, int32 or weights", a.name, type);
  a.type = type == "int32" ? ElementType::i32 : type == "half" ? ElementType::f16 : ElementType::f32;
  const auto access = need_as<std::string>(json, "AccessType");
  if (access != "ReadOnly" && access != "WriteOnly")
    throw UsageError("argument {}: AccessType is {}; it must be ReadOnly or WriteOnly", a.name, access);
  a.is_output = access == "WriteOnly";
  a.is_constant = json.value("Constant", false);
  for (const Json& size : need(json, "Size"))
    a.size.emplace_back(size.is_string() ? size.get<std::string>() : size.dump());
  if (a.size.empty() || a.size.size() > 3) throw UsageError("argument {}: Size must have one to three entries", a.name);
  a.outlier = json.value("Outlier", a.outlier);
  a.is_masked = json.value("Masked", false);
  a.is_mask = json.value("Mask", false);
  a.is_interleaved = json.value("Interleaved", false);
  return a;
}

std::vector<Expression> read_expressions(const Json& list, const char* key) {
  if (!list.is_array() || list.empty() || list.size() > 3) throw UsageError("{} must have one to three entries", key);
  std::vector<Expression> expressions;
  for (const Json& e : list) expressions.emplace_back(e.is_string() ? e.get<std::string>() : e.dump());
  return expressions;
}

/// Kernel Tuner's names are those of the block where nothing else is said.
void read_geometry(const Json& json, KernelEngine& engine) {
  engine.problem_size = read_expressions(need(json, "ProblemSize"), "ProblemSize");
  if (json.contains("Block")) {
    engine.block = read_expressions(json["Block"], "Block");
    return;
  }
  for (const char* name : {"block_size_x", "block_size_y", "block_size_z"}) {
    const auto& all = engine.space.parameters();
    const bool there = std::any_of(all.begin(), all.end(), [&](const Parameter& p) { return p.name == name; });
    engine.block.emplace_back(there ? name : "1");
  }
}

KernelEngine read_engine(const fs::path& folder, const std::string& name, const Json& json) {
  KernelEngine engine;
  engine.source = folder / need_as<std::string>(json, "KernelFile");
  if (!fs::exists(engine.source)) throw UsageError("engine {}: there is no {}", name, engine.source.string());
  engine.options = json.value("CompilerOptions", std::vector<std::string>{});
  engine.space = space_from_t1(need(json, "ConfigurationSpace"));
  for (const std::string& type : json.value("Types", std::vector<std::string>{}))
    engine.types.push_back(element_type_from(type));
  if (name != "cpu") read_geometry(json, engine);
  const Json answers = json.value("AnswerNames", Json::object());
  for (const auto& [key, parameters] : answers.items())
    engine.answer_names.push_back({key, parameters.get<std::vector<std::string>>(), ""});
  for (const AnswerName& answer : engine.answer_names)
    for (const std::string& p : answer.parameters)
      if (const auto& all = engine.space.parameters();
          !p.empty() && std::none_of(all.begin(), all.end(), [&](const Parameter& known) { return known.name == p; }))
        throw UsageError("engine {}: AnswerNames names {}, which is no parameter", name, p);
  return engine;
}

/// A launch's geometry is found from the shape's names and the parameters: of the shape those that are the size of an
/// argument on their own (device_variant.h).
void check_geometry(const KernelSpec& spec, const KernelEngine& engine) {
  std::set<std::string> known;
  for (const Parameter& p : engine.space.parameters()) known.insert(p.name);
  const auto check = [&](const std::vector<Expression>& expressions, const char* where) {
    for (const Expression& e : expressions)
      for (const std::string& name : e.names())
        if (!known.contains(name))
          throw UsageError("{}: '{}' names {}, which is not known there", where, e.text(), name);
  };
  check(engine.block, "Block");
  for (const KernelArgument& a : spec.arguments)
    for (const Expression& size : a.size) known.insert(size.text());
  check(engine.problem_size, "ProblemSize");
}

void check_arguments(const KernelSpec& spec) {
  const std::vector<KernelArgument>& all = spec.arguments;
  const auto outputs = std::count_if(all.begin(), all.end(), [](const auto& a) { return a.is_output; });
  if (all.size() < 2 || all.size() > kMostInputs + 1 || outputs != 1 || !all.back().is_output)
    throw UsageError("Arguments must be one to four inputs, then one output, and what scalars there are");
  if (spec.scalars.size() > 4) throw UsageError("Arguments holds more than 4 scalars");
  for (size_t i = 1; i < all.size(); ++i)
    if (all[i].is_constant) throw UsageError("argument {}: only the first may be Constant", all[i].name);
  for (const KernelArgument& a : all)
    if (a.is_mask && a.type != ElementType::f16) throw UsageError("argument {}: a Mask is of Type half", a.name);
  std::set<std::string> known(spec.shape_names.begin(), spec.shape_names.end());
  for (const KernelArgument& a : all)
    for (const Expression& size : a.size)
      for (const std::string& name : size.names())
        if (!known.contains(name)) throw UsageError("argument {}: Size names {}, which is not in Shape", a.name, name);
}

/// A shape as it stands: a fraction would be cut.
Shape whole_numbers(const Json& list, const char* key) {
  if (!list.is_array()) throw UsageError("{} is of the wrong type: {}", key, one_line(list.dump(), 60));
  Shape shape;
  for (const Json& n : list) {
    if (!n.is_number_integer()) throw UsageError("{} holds {}; shapes are whole numbers", key, one_line(n.dump(), 60));
    shape.push_back(n.get<int64_t>());
  }
  return shape;
}

/// No honest result is off by more than this of what it is measured by.
constexpr double kLoosest = 0.1;

double tolerance_in(const Json& json, const std::string& key) {
  const Json value = json.value(key, Json(0.0));
  if (!value.is_number() || !(value.get<double>() >= 0 && value.get<double>() <= kLoosest))
    throw UsageError(
        "Tolerance: {} is {}; it must be a number from 0 to {}: not negative, nor so large that anything "
        "passes",
        one_line(key, 40), one_line(value.dump(), 60), kLoosest);
  return value.get<double>();
}

void read_tolerance(const Json& json, KernelSpec& spec) {
  if (!json.is_object()) throw UsageError("Tolerance must be an object: Absolute, Relative, Norm");
  spec.tolerance = {tolerance_in(json, "Absolute"), tolerance_in(json, "Relative"), tolerance_in(json, "Norm")};
  spec.whole_norm = tolerance_in(json, "WholeNorm");
  spec.baseline_norm = tolerance_in(json, "BaselineNorm");
  const Json norms = json.value("NormOf", Json::object());
  if (!norms.is_object()) throw UsageError("Tolerance: NormOf must be an object: a Norm by each type");
  for (const auto& [type, norm] : norms.items()) spec.norm_of[element_type_from(type)] = tolerance_in(norms, type);
}

void check_reference(const KernelSpec& spec) {
  const std::string& name = spec.reference;
  if (!is_reference(name)) throw UsageError("Reference is {}; there are {}", name, fmt::join(reference_names(), ", "));
  if (spec.inputs() != reference_inputs(name))
    throw UsageError("Reference {} takes {} inputs; Arguments has {}", name, reference_inputs(name), spec.inputs());
  if (spec.scalars.size() != reference_scalars(name))
    throw UsageError("Reference {} takes {} scalars; Arguments has {}", name, reference_scalars(name),
                     spec.scalars.size());
}

/// The first input lies as the output does.
void check_in_place(const KernelSpec& spec, const std::vector<TensorShape>& tensors) {
  const TensorShape &in = tensors.front(), &out = tensors.back();
  const bool is_alike = in.type == out.type && std::ranges::equal(in.ne, out.ne) && std::ranges::equal(in.nb, out.nb);
  if (spec.is_in_place && (spec.weights() || !is_alike))
    throw UsageError("InPlace: the output cannot take the place of {}, which is not of its size and type",
                     spec.arguments.front().name);
}

KernelSpec parse(const fs::path& folder, const Json& json) {
  KernelSpec spec;
  const Json &general = need(json, "General"), &kernel = need(json, "KernelSpecification");
  spec.name = need_as<std::string>(general, "BenchmarkName");
  spec.description = need_as<std::string>(general, "Description");
  spec.shape_names = need_as<std::vector<std::string>>(kernel, "Shape");
  for (const std::string& type : kernel.value("Types", std::vector<std::string>{"F32"}))
    spec.types.push_back(element_type_from(type));
  for (const Json& argument : need(kernel, "Arguments")) {
    if (argument.is_object() && argument.value("MemoryType", "") == "Scalar") {
      spec.scalars.emplace_back(need_as<std::string>(argument, "Name"), need_as<float>(argument, "FillValue"));
    } else {
      spec.arguments.push_back(read_argument(argument));
    }
  }
  check_arguments(spec);
  if (kernel.contains("ShapeConditions"))
    spec.shape_conditions = read_expressions(kernel["ShapeConditions"], "ShapeConditions");
  spec.is_in_place = kernel.value("InPlace", false);
  spec.reference = need_as<std::string>(kernel, "Reference");
  check_reference(spec);
  read_tolerance(need(kernel, "Tolerance"), spec);
  spec.bytes.emplace_back(need_as<std::string>(kernel, "Bytes"));
  spec.operations.emplace_back(need_as<std::string>(kernel, "Operations"));
  const auto caches = kernel.value("Caches", std::string("hot"));
  if (caches != "hot" && caches != "cold") throw UsageError("Caches is {}; it must be hot or cold", caches);
  spec.is_cold = caches == "cold";
  for (const Json& shape : need(kernel, "HeldOutShapes"))
    spec.held_out.push_back(whole_numbers(shape, "HeldOutShapes"));
  for (const auto& [name, engine] : need(json, "Engines").items()) {
    if (name != "cpu" && spec.inputs() > 3)
      throw UsageError("engine {}: takes no kernel of more than three inputs", name);
    check_geometry(spec, spec.engines.emplace(name, read_engine(folder, name, engine)).first->second);
  }
  for (const ElementType type : spec.types) {
    const std::vector<Shape> shapes = held_out_shapes(spec, type);
    for (const Shape& shape : shapes) {
      check_in_place(spec, tensors_of(spec, {type, shape}));
      bytes_of(spec, {type, shape});
      operations_of(spec, {type, shape});
    }
    if (shapes.empty() && !spec.held_out.empty())
      throw UsageError("HeldOutShapes has none of whole blocks of {}", to_string(type));
  }
  return spec;
}

Json numbers_of(const KernelSpec& spec, const KernelProblem& problem) {
  Json numbers = Json::object();
  for (size_t i = 0; i < spec.shape_names.size(); ++i) numbers[spec.shape_names[i]] = problem.shape[i];
  return numbers;
}

double number_of(const KernelSpec& spec, const KernelProblem& problem, const char* key, const Expression& expression) {
  Json numbers = numbers_of(spec, problem);
  int64_t weight_bytes = 0;
  const std::vector<TensorShape> shapes = tensors_of(spec, problem);
  for (size_t i = 0; i < shapes.size(); ++i)
    if (spec.arguments[i].is_weights) weight_bytes += shapes[i].bytes();
  numbers["weight_bytes"] = weight_bytes;
  const auto value = expression.number(numbers);
  if (!value || !(*value > 0) || !std::isfinite(*value))
    throw UsageError("{} {}: {}: '{}' is no number above 0", spec.name, problem.label(), key, expression.text());
  return *value;
}

KernelProblem problem_from(const Json& json) {
  return {element_type_from(json.value("type", "F32")), whole_numbers(need(json, "shape"), "shape")};
}

Json suites() {
  return read_json(kernels_folder() / "suites.json");
}

}  // namespace

std::string_view to_string(ElementType type) {
  return facts(type).name;
}

int64_t row_bytes(ElementType type, int64_t n) {
  return n / facts(type).block * facts(type).bytes;
}

int64_t block_length(ElementType type) {
  return facts(type).block;
}

ElementType element_type_from(const std::string& name) {
  for (const TypeFacts& t : kTypes)
    if (t.name == name) return t.type;
  throw UsageError("{} is no type of a kernel's weights; use F32, F16, BF16, Q8_0, Q4_0, Q4_K, Q6_K or IQ4_NL",
                   one_line(name, 30));
}

size_t weights_number(ElementType type) {
  constexpr std::array kNumbers = {ElementType::f32,  ElementType::f16,  ElementType::q8_0, ElementType::q4_0,
                                   ElementType::bf16, ElementType::q4_k, ElementType::q6_k, ElementType::iq4_nl};
  const auto at = std::find(kNumbers.begin(), kNumbers.end(), type);
  if (at == kNumbers.end()) throw Error("there are no weights of the type {}", to_string(type));
  return static_cast<size_t>(at - kNumbers.begin());
}

const KernelArgument* KernelSpec::weights() const {
  return arguments.front().is_constant ? &arguments.front() : nullptr;
}

Tolerance KernelSpec::tolerance_of(ElementType type) const {
  Tolerance t = tolerance;
  if (const auto at = norm_of.find(type); at != norm_of.end()) t.norm = at->second;
  return t;
}

std::string KernelProblem::label() const {
  const std::string text = fmt::format("[{}]", fmt::join(shape, ","));
  return type == ElementType::f32 ? text : fmt::format("{} {}", to_string(type), text);
}

std::vector<TensorShape> tensors_of(const KernelSpec& spec, const KernelProblem& problem, int64_t padding) {
  if (problem.shape.size() != spec.shape_names.size())
    throw UsageError("{}: a shape has {} numbers ({}), not {}", spec.name, spec.shape_names.size(),
                     fmt::join(spec.shape_names, ", "), problem.shape.size());
  for (const int64_t n : problem.shape)
    if (n < 1 || n > int64_t{1} << 31) throw UsageError("{}: {} is no dimension of a tensor", spec.name, n);
  if (std::find(spec.types.begin(), spec.types.end(), problem.type) == spec.types.end())
    throw UsageError("{}: there is no {} here", spec.name, to_string(problem.type));
  const Json numbers = numbers_of(spec, problem);
  for (const Expression& condition : spec.shape_conditions)
    if (!condition.holds(numbers))
      throw UsageError("{}: {} does not suit it: {}", spec.name, problem.label(), condition.text());
  double bytes = 0;
  std::vector<TensorShape> all;
  for (const KernelArgument& a : spec.arguments) {
    TensorShape t;
    t.type = a.is_weights ? problem.type : a.type;
    for (size_t d = 0; d < a.size.size(); ++d) {
      const double n = a.size[d].number(numbers).value_or(0);
      if (!(n >= 1 && n <= 1u << 31) || n != std::floor(n))
        throw UsageError("{} {}: argument {}: Size '{}' gives {}, which is no dimension of a tensor", spec.name,
                         problem.label(), a.name, a.size[d].text(), n);
      t.ne[d] = static_cast<int64_t>(n);
    }
    if (t.ne[0] % block_length(t.type) != 0)
      throw UsageError("{}: rows of {} elements are no whole blocks of {}", spec.name, t.ne[0], to_string(t.type));
    t.row = row_bytes(t.type, t.ne[0]);
    t.nb[0] = row_bytes(t.type, block_length(t.type));
    t.nb[1] = t.row + (a.is_constant ? 0 : padding);
    bytes += static_cast<double>(t.nb[1]) * static_cast<double>(t.ne[1]) * static_cast<double>(t.ne[2]);
    if (bytes > static_cast<double>(kMostTensorBytes))
      throw UsageError("{} {}: takes {:.3g} bytes or more; more than {:.3g} cannot be measured here", spec.name,
                       problem.label(), bytes, static_cast<double>(kMostTensorBytes));
    t.nb[2] = t.nb[1] * t.ne[1];
    if (a.is_interleaved) {
      t.nb[2] = t.nb[1];
      t.nb[1] = t.nb[2] * t.ne[2];
    }
    all.push_back(t);
  }
  if (const auto at = misfit(spec.reference, all))
    throw UsageError("{} {}: argument {}: its Size ({}) or its Type does not suit the reference {} beside the others",
                     spec.name, problem.label(), spec.arguments[*at].name, fmt::join(all[*at].ne, ", "),
                     spec.reference);
  return all;
}

std::vector<Shape> held_out_shapes(const KernelSpec& spec, ElementType type) {
  if (!spec.weights()) return spec.held_out;
  std::vector<Shape> shapes;
  for (const Shape& shape : spec.held_out) {
    const bool is_other = shape.size() != spec.shape_names.size();  // which tensors_of() tells
    const double row = is_other ? 0 : spec.weights()->size.front().number(numbers_of(spec, {type, shape})).value_or(0);
    if (std::fmod(row, static_cast<double>(block_length(type))) == 0) shapes.push_back(shape);
  }
  return shapes;
}

double bytes_of(const KernelSpec& spec, const KernelProblem& problem) {
  return number_of(spec, problem, "Bytes", spec.bytes.front());
}

double operations_of(const KernelSpec& spec, const KernelProblem& problem) {
  return number_of(spec, problem, "Operations", spec.operations.front());
}

KernelSpec read_kernel_spec(const fs::path& folder) {
  const fs::path file = folder / "spec.json";
  if (!fs::exists(file) && folder.parent_path() == kernels_folder())
    throw UsageError("there is no kernel {}; there are {}", one_line(folder.filename().string(), 40),
                     fmt::join(kernel_names(), ", "));
  const Json json = read_json(file);
  try {
    KernelSpec spec = parse(folder, json);
    spec.hash = fnv1a_64(json.dump());
    return spec;
  } catch (const UsageError& e) {
    throw UsageError("{}: {}", file.string(), e.what());
  } catch (const std::exception& e) {  // of the JSON library, of a search space
    throw UsageError("{}: {}", file.string(), e.what());
  }
}

fs::path kernels_folder() {
  if (const std::string named = environment("HAQA_KERNELS"); !named.empty()) return named;
  const fs::path installed = program_folder().parent_path() / "share/haqa/kernels";
  return fs::is_directory(installed) ? installed : fs::path(HAQA_SOURCE_DATA).parent_path() / "kernels";
}

std::vector<std::string> kernel_names() {
  std::set<std::string> names;
  for (const fs::directory_entry& entry : fs::directory_iterator(kernels_folder()))
    if (fs::exists(entry.path() / "spec.json")) names.insert(entry.path().filename().string());
  return {names.begin(), names.end()};
}

std::vector<std::string> suite_names() {
  std::vector<std::string> names;
  const Json all = suites();
  for (const auto& [name, entries] : all.items()) names.push_back(name);
  return names;
}

std::vector<SuiteEntry> read_suite(const std::string& name) {
  const Json all = suites();
  if (!all.contains(name))
    throw UsageError("there is no suite {}; use one of {}", one_line(name), fmt::join(suite_names(), ", "));
  std::vector<SuiteEntry> entries;
  for (const Json& entry : all[name]) entries.push_back({need_as<std::string>(entry, "kernel"), problem_from(entry)});
  return entries;
}

}  // namespace haqa
