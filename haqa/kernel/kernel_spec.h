#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "haqa/study/study.h"

namespace haqa {

using Shape = std::vector<int64_t>;

inline constexpr size_t kMostInputs = 4;

/// What stands in memory for an argument of a kernel.
enum class ElementType { f32, i32, f16, q8_0, q4_0, bf16, q4_k, q6_k, iq4_nl };

std::string_view to_string(ElementType type);  ///< "F32", "I32", "F16", "Q8_0", ...
/// Bytes of a row of `n` elements, which are whole blocks.
int64_t row_bytes(ElementType type, int64_t n);
/// Elements of a block: 32 or 256 where they are quantized, else 1.
int64_t block_length(ElementType type);

/// What sources know it by: HAQA_WEIGHTS.
size_t weights_number(ElementType type);

/// A kernel's input or output.
struct KernelArgument {
  std::string name;
  ElementType type = ElementType::f32;
  bool is_weights = false;  ///< its type is the problem's
  bool is_output = false;
  bool is_constant = false;      ///< handed over once, and may be packed: a model's weights
  std::vector<Expression> size;  ///< as in ggml: the contiguous dimension first
  double outlier = 1e4;          ///< magnitude of the largest values that it is tested with
  bool is_masked = false;        ///< minus infinity occurs
  bool is_mask = false;          ///< 0 where a query may see a position, minus infinity where not: as a rule causal
  bool is_interleaved = false;   ///< in memory the third dimension comes before the second: heads of a token in turn
};

/// How far an element may be from the reference: absolute + relative * |it| + norm * its scale, which for products is
/// |row| * |column| / sqrt(k), or half of |row| * the largest of the column, block by block, where rows have blocks.
struct Tolerance {
  double absolute = 0, relative = 0, norm = 0;
};

/// Sources of a kernel for one engine, and what can be tuned in them.
struct KernelEngine {
  std::filesystem::path source;
  std::vector<std::string> options;  ///< of the compiler
  SearchSpace space;
  std::vector<ElementType> types;        ///< of the weights that the source knows; the specification's where empty
  std::vector<AnswerName> answer_names;  ///< what the paper's answers call some of its parameters
  /// Of a device's engine: work-items that are needed in each dimension, over the shape's names and the parameters, and
  /// those of a work-group, over the parameters.
  std::vector<Expression> problem_size, block;
};

/// A kernel as kernels/NAME/spec.json describes it, in the vocabulary of Kernel Tuner's T1.
struct KernelSpec {
  std::string name, description;
  std::vector<std::string> shape_names;      ///< "ne0", ...
  std::vector<Expression> shape_conditions;  ///< over them, that must hold
  std::vector<ElementType> types;            ///< of the weights; F32 alone where there are none
  std::vector<KernelArgument> arguments;     ///< inputs, then the output
  std::vector<std::pair<std::string, float>> scalars;
  std::string reference;  ///< its name in reference.h
  Tolerance tolerance;
  std::map<ElementType, double> norm_of;  ///< Tolerance::norm where a type has another
  /// Tolerance::norm of types that norm_of has not, for activations that 8 bits hold (inputs.h, Distribution::whole);
  /// 0: such are not tried.
  double whole_norm = 0;
  double baseline_norm = 0;  ///< Tolerance::norm of llama.cpp's and libraries', or 8 times norm_of; 0: the same
  std::vector<Expression> bytes, operations;  ///< one each, over the shape's names and weight_bytes
  bool is_in_place = false;     ///< the output may be the first input: it must be right then too (kernels/kernel.h)
  bool is_cold = false;         ///< measured with weights out of the caches, as a model streams them
  std::vector<Shape> held_out;  ///< shapes that a variant is checked on besides
  std::map<std::string, KernelEngine> engines;
  uint64_t hash = 0;  ///< FNV-1a of all that its file says

  const KernelArgument* weights() const;  ///< the constant input, which is the first; nullptr where there is none
  size_t inputs() const { return arguments.size() - 1; }
  Tolerance tolerance_of(ElementType type) const;
};

/// What a kernel is to compute: of which type and shape.
struct KernelProblem {
  ElementType type = ElementType::f32;  ///< of the weights
  Shape shape;
  std::string label() const;  ///< "[1024,64,32]", "Q8_0 [2048,1,2048]"
};

/// A tensor in memory as ggml has it: nb in bytes.
struct TensorShape {
  int64_t ne[3] = {1, 1, 1}, nb[3] = {0, 0, 0};
  int64_t rows() const { return ne[1] * ne[2]; }
  int64_t offset_of(int64_t r) const { return r % ne[1] * nb[1] + r / ne[1] * nb[2]; }  ///< of a row, in bytes
  int64_t bytes() const { return (ne[1] - 1) * nb[1] + (ne[2] - 1) * nb[2] + row; }
  int64_t row = 0;  ///< bytes of a row
  ElementType type = ElementType::f32;
};

/// Bytes of all tensors of a problem at most: the judge's memory holds weights twice, and outputs several times.
inline constexpr int64_t kMostTensorBytes = int64_t{1} << 29;

/// The shape of each argument, the output last, each row followed by `padding` bytes (a multiple of 4) where it is not
/// constant. Throws UsageError where the problem does not suit the kernel, or takes more than kMostTensorBytes.
std::vector<TensorShape> tensors_of(const KernelSpec& spec, const KernelProblem& problem, int64_t padding = 0);

/// Those held-out shapes whose rows are whole blocks of the type.
std::vector<Shape> held_out_shapes(const KernelSpec& spec, ElementType type);

/// Least traffic and arithmetic, for the roofline.
double bytes_of(const KernelSpec& spec, const KernelProblem& problem);
double operations_of(const KernelSpec& spec, const KernelProblem& problem);

/// Reads FOLDER/spec.json. Throws UsageError that names the file and what is missing or wrong.
KernelSpec read_kernel_spec(const std::filesystem::path& folder);

/// Where the kernels are: $HAQA_KERNELS, else beside the installed program, else the source tree.
std::filesystem::path kernels_folder();
std::vector<std::string> kernel_names();

/// A kernel with a problem of a suite: what one row of the table is about.
struct SuiteEntry {
  std::string kernel;
  KernelProblem problem;
};
/// A suite of kernels/suites.json. Throws UsageError that lists the names there are.
std::vector<SuiteEntry> read_suite(const std::string& name);
std::vector<std::string> suite_names();

/// "Q8_0" and the like. Throws UsageError.
ElementType element_type_from(const std::string& name);

}  // namespace haqa
