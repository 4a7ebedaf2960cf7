#include "haqa/variants/variant_objective.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/deploy/bundle.h"
#include "haqa/hardware/detect.h"
#include "haqa/kernel/compiler.h"
#include "haqa/model/make_model.h"
#include "haqa/worker/worker.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

const Workload kShort = {8, 4};

RuntimeOptions with_module() {
  RuntimeOptions options;
  options.kernels = "haqa";
  return options;
}

/// A tiny model and unmodified llama-bench.
class VariantObjectiveTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    shared_ = new TemporaryFolder;
    make_model(model_shape("tiny"), default_vocabulary(), 1, model());
  }
  static void TearDownTestSuite() { delete shared_; }
  static fs::path model() { return shared_->path() / "tiny.gguf"; }
  void SetUp() override {
    if (backend_module().empty() || installed_compilers().empty()) GTEST_SKIP() << "no module, or no compiler";
  }

  GraphKernel of_graph(const std::string& kernel) const {
    for (const GraphKernel& k : kernels_of_graph(read_model(model()), with_module(), kShort))
      if (k.kernel == kernel) return k;
    ADD_FAILURE() << kernel;
    return {};
  }
  /// By unmodified llama-bench.
  VariantObjective objective(const std::string& kernel, int pairs = 1) {
    return with_benchmark(kernel, pairs, [this, time = llama_bench(kShort, 120)](const haqa::Setup& s) {
      timed_.push_back(s);
      return time(s);
    });
  }
  VariantObjective with_benchmark(const std::string& kernel, int pairs, Benchmark benchmark) {
    KernelTask task;
    task.folder = kernels_folder() / kernel;
    task.spec = read_kernel_spec(task.folder);
    task.hardware.cores = task.hardware.threads = 2;
    task.hardware.memory_bytes = uint64_t{1} << 32;
    VariantObjective::Tools tools;
    tools.benchmark = std::move(benchmark);
    tools.setup = [] { return haqa::Setup{model(), with_module(), {}}; };
    return VariantObjective(std::move(task), of_graph(kernel), folder(), {}, pairs, std::move(tools));
  }
  fs::path folder() const { return temporary_.path() / "kernels"; }
  /// A source that does more, or something else, than the one that ships.
  Configuration changed(const std::string& kernel, const std::string& from, const std::string& to) const {
    const KernelSpec spec = read_kernel_spec(kernels_folder() / kernel);
    std::string source = read_file(spec.engines.at("cpu").source);
    const size_t at = source.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    source.replace(at, from.size(), to);
    Configuration c = variant_space(spec, {}, true).defaults();
    c[kCode] = source;
    return c;
  }

  const TemporaryFolder temporary_;
  std::vector<haqa::Setup> timed_;

 private:
  static inline TemporaryFolder* shared_ = nullptr;
};

TEST_F(VariantObjectiveTest, AVariantIsJudgedThenServesInTheModel) {
  VariantObjective o = objective("matvec");
  EXPECT_EQ(o.kernel().name(), "matvec-F16");
  Configuration c = variant_space(read_kernel_spec(kernels_folder() / "matvec"), {}, false).defaults();
  EXPECT_FALSE(c.contains("threads") || c.contains("layout"));
  c["prefetch_l1"] = 16;
  const Outcome out = o.evaluate(c);
  ASSERT_TRUE(out.value) << out.message;
  EXPECT_GT(*out.value, 0);
  EXPECT_EQ(out.metrics["pairs"], 1);
  ASSERT_EQ(timed_.size(), 2u);
  EXPECT_EQ(timed_[0].tuning, folder() / "so-far.json");
  EXPECT_EQ(timed_[1].tuning, folder() / "tried.json");
  const Json tried = read_json(folder() / "tried.json");
  ASSERT_EQ(tried["kernels"].size(), 1u);
  EXPECT_EQ(tried["kernels"][0]["parameters"]["prefetch_l1"], 16);
  EXPECT_TRUE(fs::exists(folder() / tried["kernels"][0]["file"].get<std::string>()));
  EXPECT_TRUE(fs::exists(folder() / tried["kernels"][0]["source"].get<std::string>()));
  EXPECT_EQ(read_json(folder() / "so-far.json")["kernels"].size(), 0u);
}

/// What the module would not use is not timed in its name.
TEST_F(VariantObjectiveTest, AVariantThatTheModuleRefusesIsNoResult) {
  VariantObjective o = objective("matvec");
  Trial trial;
  trial.configuration = Json::object();
  trial.metrics = {{"file", "kernels/nowhere.so"}, {"hash", "0123456789abcdef"}};
  try {
    o.confirm(ModelTuning().with(o.variant_of(trial)), 6);
    ADD_FAILURE();
  } catch (const WorkerError& e) {
    EXPECT_THAT(e.what(), HasSubstr("is missing or not the one that was measured"));
  }
}

TEST_F(VariantObjectiveTest, AWrongVariantNeverReachesTheModel) {
  VariantObjective o = objective("swiglu");
  for (const auto& [from, to, reason] :
       {std::tuple{"void haqa_kernel(", "wrong haqa_kernel(", FailReason::does_not_compile},
        {"void haqa_kernel(const haqa_launch* launch) {", "void haqa_kernel(const haqa_launch* launch) { return;",
         FailReason::wrong_result}}) {
    const Outcome out = o.evaluate(changed("swiglu", from, to));
    EXPECT_EQ(out.value, std::nullopt);
    EXPECT_EQ(out.reason, reason) << out.message;
    EXPECT_NE(out.message, "");
  }
  EXPECT_TRUE(timed_.empty()) << "llama-bench has not been run";
  EXPECT_FALSE(fs::exists(folder() / "kernels")) << "nor was anything kept";
}

/// By which the module packs weights, unlike the judge's own way it does not see; and reads them back.
TEST_F(VariantObjectiveTest, PackingInPartsAndBackIsVerifiedToo) {
  VariantObjective o = objective("matvec");
  const Outcome lost = o.evaluate(changed("matvec", "void haqa_unpack(", "void haqa_unpack_elsewhere("));
  EXPECT_EQ(lost.reason, FailReason::does_not_compile) << lost.message;
  const std::string unpack = "void haqa_unpack(const haqa_tensor* weights, const void* packed) {";
  const Outcome wrong = o.evaluate(changed("matvec", unpack, unpack + " return;"));
  EXPECT_EQ(wrong.value, std::nullopt);
  EXPECT_THAT(wrong.message, HasSubstr("haqa_unpack gives other bytes"));
  EXPECT_TRUE(timed_.empty());
}

/// Right, and slow on purpose.
TEST_F(VariantObjectiveTest, ASlowVariantIsRefusedByTheWholeModel) {
  VariantObjective o = objective("matvec", 3);
  const std::string entry = "void haqa_kernel(const haqa_launch* launch) {";
  const Outcome out =
      o.evaluate(changed("matvec", entry, entry + "\n  for (volatile int i = 0; i < 5000000; i = i + 1) {}\n"));
  ASSERT_TRUE(out.value) << out.message;
  EXPECT_LT(*out.value, 1);
  Trial trial;
  trial.configuration = Json::object();
  trial.metrics = out.metrics;
  EXPECT_FALSE(is_faster(o.confirm(ModelTuning().with(o.variant_of(trial)), 6)));
}

/// Rates of the tuning so far, and of what is tried beside it, in turn.
TEST_F(VariantObjectiveTest, WhatIsSlowerIsGivenUpEarlyAndWhatIsNotSurelyFasterIsNotTaken) {
  struct Case {
    std::vector<double> tried;  ///< in times of the tuning so far; the last goes on
    int round_pairs, confirm_pairs;
    bool faster;
  };
  for (const Case& c : std::vector<Case>{{{0.8, 0.8}, 2, 2, false},
                                         {{0.9, 0.95, 0.99}, 3, 6, false},
                                         {{0.9, 0.95, 1.01}, 12, 20, true},
                                         {{1.02}, 12, 20, true},
                                         {{0.99, 0.99, 1.0, 1.0, 0.99, 0.98}, 12, 6, false},
                                         {{1.1, 0.9, 1.1, 0.9, 1.1, 1.1, 0.9}, 12, 20, false}}) {
    std::map<std::string, size_t> calls;
    VariantObjective o = with_benchmark("swiglu", 12, [&](const haqa::Setup& s) {
      const size_t call = calls[s.tuning.filename()]++;
      Measurement m;
      m.tokens_per_s = s.tuning.filename() == "tried.json" ? 100 * c.tried[std::min(call, c.tried.size() - 1)] : 100;
      return m;
    });
    const Comparison round = o.compare_stock();
    EXPECT_EQ(round.speedup.samples, c.round_pairs) << c.tried[0];
    calls.clear();
    const Comparison confirmed = o.confirm(ModelTuning().with_stock("swiglu-F32"), 20);
    EXPECT_EQ(confirmed.speedup.samples, c.confirm_pairs) << c.tried[0];
    EXPECT_EQ(is_faster(confirmed), c.faster) << c.tried[0];
  }
}

/// The tuning so far is not the variant's fault.
TEST_F(VariantObjectiveTest, WhereTheTuningSoFarFailsNoRoundIsBlamed) {
  VariantObjective o = with_benchmark("swiglu", 1, [](const haqa::Setup& s) -> Measurement {
    if (s.tuning.filename() == "so-far.json") throw WorkerError(ProcessEnd::out_of_memory, "full");
    return {};
  });
  try {
    o.compare_stock();
    ADD_FAILURE();
  } catch (const WorkerError&) {
    ADD_FAILURE() << "that would be the variant's";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("failed twice: full"));
  }
}

TEST_F(VariantObjectiveTest, StockCodeStandsInForOneKernel) {
  VariantObjective o = objective("attention");
  const Comparison c = o.compare_stock();
  EXPECT_GT(c.speedup.median, 0);
  EXPECT_EQ(read_json(folder() / "tried.json")["stock"], Json({"attention-F16"}));
  EXPECT_THAT(o.so_far().stock, testing::IsEmpty());
}

TEST_F(VariantObjectiveTest, ABundleBringsVariantsThatServeWhereItIsMoved) {
  VariantObjective o = objective("matvec");
  const Outcome out = o.evaluate(variant_space(read_kernel_spec(kernels_folder() / "matvec"), {}, false).defaults());
  ASSERT_TRUE(out.value) << out.message;
  Trial trial;
  trial.configuration = Json::object();
  trial.metrics = out.metrics;
  const ServedVariant variant = o.variant_of(trial);
  write_tuning(ModelTuning().with(variant).with_stock("swiglu-F32"), folder() / "haqa-tuning.json");
  const fs::path made = temporary_.path() / "bundle", moved = temporary_.path() / "moved here";
  write_bundle(made, {model(), with_module(), folder() / "haqa-tuning.json"}, 64, {});
  fs::rename(made, moved);
  fs::remove_all(folder());
  for (const std::string& name : {std::string("haqa-tuning.json"), variant.file, variant.source})
    EXPECT_TRUE(fs::exists(moved / "haqa" / name)) << name;
  const auto bench = [&] {
    Command command{{(llama_bin_folder() / "llama-bench").string(), "-m", (moved / "tiny.gguf").string(), "-p", "8",
                     "-n", "2", "-r", "1", "-o", "json"}};
    command.environment = {{"GGML_BACKEND_PATH", (moved / "haqa/libggml-haqa.so").string()}};
    return run_process(command);
  };
  const ProcessResult served = bench();
  EXPECT_THAT(served.output, HasSubstr("HAQA"));
  EXPECT_THAT(served.errors, Not(HasSubstr("serve"))) << "the variant is the one that was measured";
  write_file(moved / "haqa" / variant.file, "damaged");
  EXPECT_THAT(bench().errors, HasSubstr("the default serves"));
}

TEST(GraphKernels, AreThoseOfTheModelByWhatATokenReads) {
  ModelInfo m;
  m.architecture = "llama";
  m.n_layer = 2, m.n_embd = 64, m.n_head = 4, m.n_head_kv = 2, m.n_ff = 128, m.n_vocab = 1000;
  m.n_embd_head_k = m.n_embd_head_v = 16;
  const auto tensor = [](const char* name, const char* type, int64_t columns, int64_t rows) {
    return TensorInfo{name, type, {columns, rows}, static_cast<uint64_t>(columns * rows)};
  };
  m.tensors = {tensor("token_embd.weight", "Q8_0", 64, 1000),  tensor("output.weight", "Q6_K", 256, 1000),
               tensor("blk.0.attn_q.weight", "Q8_0", 64, 64),  tensor("blk.0.ffn_up.weight", "Q8_0", 64, 128),
               tensor("blk.0.attn_norm.weight", "F32", 64, 1), tensor("blk.0.odd.weight", "Q5_1", 64, 64)};
  const std::vector<GraphKernel> all = kernels_of_graph(m, with_module(), {128, 256});
  std::vector<std::string> names;
  double sum = 0;
  for (const GraphKernel& k : all) names.push_back(k.name()), sum += k.share;
  EXPECT_THAT(names, ElementsAre("matvec-Q6_K", "attention-F16", "matvec-Q8_0", "swiglu-F32", "rms_norm_mul-F32"));
  EXPECT_DOUBLE_EQ(sum, 1);
  std::vector<Shape> shapes;
  for (const KernelProblem& p : all[2].problems) shapes.push_back(p.shape);
  EXPECT_THAT(shapes, ElementsAre(Shape{128, 1, 64}, Shape{64, 1, 64}, Shape{128, 128, 64}, Shape{64, 128, 64}))
      << "the embedding is looked up, not multiplied";
  RuntimeOptions without = with_module();
  without.cache_type_k = "q8_0";
  for (const GraphKernel& k : kernels_of_graph(m, without, {128, 256})) EXPECT_NE(k.kernel, "attention");
  m.architecture = "gpt2";
  EXPECT_TRUE(kernels_of_graph(m, with_module(), {128, 256}).empty());
}

TEST(TuningFile, OneVariantOrStockCodeAKernel) {
  const ServedVariant a = {"matvec", "Q8_0", "kernels/a.so", "sources/a.cpp", "1", Json::object()};
  ServedVariant b = a;
  b.file = "kernels/b.so";
  const ModelTuning tuning = ModelTuning().with(a).with_stock("attention-F16").with(b);
  ASSERT_EQ(tuning.variants.size(), 1u);
  EXPECT_EQ(tuning.variants[0].file, "kernels/b.so");
  EXPECT_THAT(tuning.stock, ElementsAre("attention-F16"));
  EXPECT_TRUE(tuning.with_stock("matvec-Q8_0").variants.empty());
  EXPECT_THAT(tuning.with_stock("matvec-Q8_0").with(a).stock, ElementsAre("attention-F16"));
  EXPECT_EQ(to_json(variant_from_json(to_json(a))), to_json(a));
}

}  // namespace
}  // namespace haqa
