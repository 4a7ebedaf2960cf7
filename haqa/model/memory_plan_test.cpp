#include "haqa/model/memory_plan.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <llama.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <map>

#include "haqa/base/bytes.h"
#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/model/make_model.h"
#include "haqa/model/model_test_support.h"

// From llama.cpp's src/llama-ext.h, which is not installed: what its own --fit reads.
struct llama_memory_breakdown_data {
  size_t model = 0, context = 0, compute = 0;
};
using llama_memory_breakdown = std::map<ggml_backend_buffer_type_t, llama_memory_breakdown_data>;
llama_memory_breakdown llama_get_memory_breakdown(const llama_context* context);

namespace haqa {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

/// llama.cpp's own figures. With no_alloc it plans without allocating, so a 16 GB model is a hole in a file.
llama_memory_breakdown_data reference(const std::filesystem::path& file, const MemoryUse& use, bool no_alloc) {
  llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  llama_model_params model_params = llama_model_default_params();
  model_params.no_alloc = no_alloc;
  model_params.load_mode = LLAMA_LOAD_MODE_NONE;
  const std::unique_ptr<llama_model, decltype(&llama_model_free)> model(
      llama_model_load_from_file(file.c_str(), model_params), llama_model_free);
  llama_context_params params = llama_context_default_params();
  params.n_ctx = static_cast<uint32_t>(use.n_ctx);
  params.n_batch = static_cast<uint32_t>(use.n_batch);
  params.n_ubatch = static_cast<uint32_t>(use.n_ubatch);
  params.n_outputs_max = static_cast<uint32_t>(use.n_outputs);
  params.flash_attn_type = use.flash_attention ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
  params.type_k = use.type_k == "f16" ? GGML_TYPE_F16 : use.type_k == "q8_0" ? GGML_TYPE_Q8_0 : GGML_TYPE_Q4_0;
  params.type_v = use.type_v == "f16" ? GGML_TYPE_F16 : use.type_v == "q8_0" ? GGML_TYPE_Q8_0 : GGML_TYPE_Q4_0;
  const std::unique_ptr<llama_context, decltype(&llama_free)> context(llama_init_from_model(model.get(), params),
                                                                      llama_free);
  if (!context) throw Error("llama.cpp refused {}", file.string());
  llama_memory_breakdown_data sum;
  for (const auto& [type, bytes] : llama_get_memory_breakdown(context.get())) {
    sum.model += bytes.model;
    sum.context += bytes.context;
    sum.compute += bytes.compute;
  }
  return sum;
}

/// As llama.cpp's build for this machine finds it.
bool has_amx() {
  return read_file("/proc/cpuinfo").find(" amx_int8") != std::string::npos;
}

std::vector<MemoryUse> uses() {
  std::vector<MemoryUse> all;
  for (const int n_ctx : {512, 4096, 16384})
    for (const bool flash : {true, false})
      for (const char* type : {"f16", "q8_0", "q4_0"})
        if (flash || std::string(type) == "f16") {
          MemoryUse& use = all.emplace_back();
          use.n_ctx = n_ctx, use.flash_attention = flash;
          use.type_k = use.type_v = type;
        }
  all.push_back({.n_ctx = 700, .n_batch = 300, .n_ubatch = 128});  // rounded up to 768 cells
  all.push_back({.n_ctx = 100});                                   // the batch shrinks with it
  all.push_back({.n_ctx = 1024, .type_k = "q8_0", .type_v = "f16", .n_batch = 1, .n_ubatch = 1});
  all.push_back({.n_ctx = 2048, .type_k = "q4_0", .type_v = "f16", .n_ubatch = 0, .flash_attention = false});
  for (MemoryUse& use : all) use.amx = has_amx();
  return all;
}

class LlamaAgreement : public ::testing::TestWithParam<std::string> {
 protected:
  static ModelInfo model() {
    const std::string name = GetParam();
    if (name == "small")
      return test_model({.n_layer = 4, .n_embd = 512, .n_head = 8, .n_head_kv = 2, .n_ff = 1024, .n_vocab = 32000});
    if (name == "narrow heads")
      return test_model({.n_layer = 2, .n_embd = 320, .n_head = 10, .n_head_kv = 10, .n_ff = 64});
    if (name == "fused") return fused();
    return architecture(name);
  }
  static ModelInfo fused() {
    ModelInfo m = test_model({.n_layer = 3, .n_embd = 256, .n_head = 4, .n_head_kv = 2});
    std::erase_if(m.tensors, [](const auto& t) { return t.name.find("attn_k.") + 1 || t.name.find("attn_v.") + 1; });
    for (TensorInfo& tensor : m.tensors)
      if (const size_t at = tensor.name.find("attn_q."); at != std::string::npos) {
        tensor.name.replace(at, 7, "attn_qkv.");
        tensor.shape = {256, 512};
        tensor.bytes = tensor_bytes(tensor.shape, tensor.type);
      }
    return m;
  }
};

TEST_P(LlamaAgreement, ByteForByte) {
  TemporaryFolder folder;
  const ModelInfo source = model();
  for (const char* type : {"F16", "Q4_0", "Q8_0", "Q4_K_M"}) {  // some are repacked on loading: moved, not copied
    write_model(quantized(source, type), folder / "model.gguf");
    for (const MemoryUse& use : uses()) {
      const bool narrow = source.n_embd_head_k % 32 != 0;
      if (narrow && use.type_k + use.type_v != "f16f16") {
        EXPECT_THROW(kv_cache_bytes(source, use), UsageError);
        // llama.cpp refuses it too, but without flash attention only when it computes.
        if (use.flash_attention) {
          EXPECT_THROW(reference(folder / "model.gguf", use, true), Error);
        }
        continue;
      }
      const auto want = reference(folder / "model.gguf", use, true);
      const MemoryRow got = plan_row(source, type, use);
      const std::string where =
          fmt::format("{} n_ctx {} {} {} flash {}", type, use.n_ctx, use.type_k, use.type_v, use.flash_attention);
      EXPECT_EQ(got.kv_cache, want.context) << where;
      EXPECT_EQ(got.compute, want.compute) << where;
      // llama.cpp's buffers pad each tensor to 32 bytes.
      EXPECT_LE(got.weights, want.model) << where;
      EXPECT_LE(want.model - got.weights, 32 * source.tensors.size()) << where;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, LlamaAgreement,
                         ::testing::Values("tinyllama-1.1b", "llama3.2-3b", "llama3-8b", "openllama-3b", "gpt2-large",
                                           "small", "narrow heads", "fused"),
                         [](const auto& test) {
                           std::string name = test.param;
                           for (char& c : name)
                             if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
                           return name;
                         });

/// The most memory that a program held, read from the kernel while it runs: getrusage would add what this test held
/// when it forked.
uint64_t peak_resident_bytes(std::vector<std::string> words) {
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t quiet;
  posix_spawn_file_actions_init(&quiet);
  posix_spawn_file_actions_addopen(&quiet, 1, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addopen(&quiet, 2, "/dev/null", O_WRONLY, 0);
  pid_t child = 0;
  EXPECT_EQ(posix_spawn(&child, arguments[0], &quiet, nullptr, arguments.data(), environ), 0);
  posix_spawn_file_actions_destroy(&quiet);
  uint64_t peak = 0;
  int status = 0;
  while (waitpid(child, &status, WNOHANG) == 0) {
    std::ifstream in(fmt::format("/proc/{}/status", child));
    for (std::string line; std::getline(in, line);)
      if (line.starts_with("VmHWM:")) peak = std::max<uint64_t>(peak, std::stoull(line.substr(6)) * 1024);
    usleep(500);
  }
  EXPECT_EQ(status, 0);
  return peak;
}

/// By hand, on any machine: a model of one layer, 256 wide, 64 words, 4 heads, feed-forward 512.
TEST(MemoryPlan, AmxTakesMoreForSomeTypes) {
  const ModelInfo model =
      test_model({.n_layer = 1, .n_embd = 256, .n_head = 4, .n_head_kv = 4, .n_ff = 512, .n_vocab = 64});
  const auto more = [&](const ModelInfo& m, const char* type) {
    MemoryUse use;
    const uint64_t plain = plan_row(m, type, use).weights;
    use.amx = true;
    return plan_row(m, type, use).weights - plain;
  };
  const uint64_t numbers = 4 * 256 * 256 + 3 * 256 * 512 + 256 * 64;  // attention, feed-forward, output
  EXPECT_EQ(more(model, "F16"), 0u);
  EXPECT_EQ(more(model, "Q4_0"), 0u) << "nor has the output in Q6_K more";
  EXPECT_EQ(more(model, "Q8_0"), numbers / 32 * 4);
  ModelInfo tied = model;
  tied.tied_output = true;
  std::erase_if(tied.tensors, [](const TensorInfo& t) { return t.name == "output.weight"; });
  EXPECT_EQ(more(tied, "F16"), 2u * 256 * 64) << "the embedding twice";
  tied.tensors.front().shape[1] = 50;  // words, not divisible by 32: it stays where it is
  ASSERT_EQ(tied.tensors.front().name, "token_embd.weight");
  EXPECT_EQ(more(tied, "F16"), 0u);
}

TEST(MemoryPlan, AFileOfTheAskedTypeIsPlannedAsItIs) {
  TemporaryFolder folder;
  ModelInfo source = architecture("tinyllama-1.1b");
  const struct {
    const char *written, *main_type;
    BitWidth width;
  } cases[] = {{"Q4_K_M", "Q4_K", BitWidth::int4}, {"Q8_0", "Q8_0", BitWidth::int8}, {"BF16", "BF16", BitWidth::fp16}};
  for (const auto& c : cases) {
    write_model(quantized(source, c.written), folder / "model.gguf");
    const ModelInfo file = read_model(folder / "model.gguf");
    ASSERT_EQ(file.main_type(), c.main_type);
    const MemoryRow row = plan_row(file, c.main_type, {});
    EXPECT_EQ(row.weights, quantized_bytes(source, c.written));
    EXPECT_EQ(row.bit_width, c.width);
  }
}

TEST(MemoryPlan, RealAllocationAndProcess) {
  TemporaryFolder folder;
  const auto file = folder / "tiny.gguf";
  make_model(model_shape("tiny"), default_vocabulary(), 1, file);
  const ModelInfo model = read_model(file);
  const MemoryUse use{.n_ctx = 512};
  const MemoryRow row = plan_row(model, "F16", use);
  const auto want = reference(file, use, /*no_alloc=*/false);
  EXPECT_EQ(row.kv_cache, want.context);
  EXPECT_EQ(row.compute, want.compute);
  EXPECT_NEAR(static_cast<double>(row.weights), static_cast<double>(want.model), 10'000);

  // 16 tokens touch little of the compute buffer, so what is left is the overhead.
  const uint64_t peak = peak_resident_bytes({(llama_bin_folder() / "llama-bench").string(), "-m", file.string(), "-p",
                                             "0", "-n", "16", "-r", "1", "-t", "2", "--load-mode", "none"});
  EXPECT_LE(peak, row.total());
  const double overhead = static_cast<double>(peak) - static_cast<double>(row.weights + row.kv_cache);
  EXPECT_GT(overhead, 0.5 * static_cast<double>(row.overhead));
  EXPECT_LT(overhead, 1.2 * static_cast<double>(row.overhead));
}

std::string fitting(uint64_t limit) {
  std::string widths;
  for (const MemoryRow& row : plan_memory(architecture("llama2-13b"), {}, limit).rows)
    if (row.fits) widths += (widths.empty() ? "" : " ") + std::string(to_string(row.bit_width));
  return widths;
}

// Source: the paper's table for LLaMA2-13B, 128 tokens in and 256 out.
TEST(MemoryPlan, PaperTable) {
  EXPECT_EQ(fitting(parse_bytes("4GB")), "");
  EXPECT_EQ(fitting(parse_bytes("12GB")), "int4");
  EXPECT_EQ(fitting(parse_bytes("20GB")), "int8 int4");
  EXPECT_EQ(fitting(parse_bytes("28GB")), "fp16 int8 int4");
}

TEST(MemoryPlan, RowsAddUpAndLimitsAreExact) {
  const ModelInfo model = architecture("tinyllama-1.1b");
  const MemoryUse use{.adapter_bytes = 12'345'678};
  const MemoryPlan plan = plan_memory(model, use, std::nullopt);
  ASSERT_EQ(plan.rows.size(), 3u);
  EXPECT_TRUE(plan.any_fits());
  EXPECT_FALSE(MemoryPlan().any_fits());
  // By hand: 512 cells, 22 layers, 4 heads of 64, K and V, two bytes.
  EXPECT_EQ(plan.rows[0].kv_cache, 512u * 22 * 4 * 64 * 2 * 2);
  for (const MemoryRow& row : plan.rows) {
    EXPECT_EQ(row.total(), row.weights + row.kv_cache + row.compute + 12'345'678 + row.overhead);
    EXPECT_EQ(row.weights, quantized_bytes(model, row.gguf_type));
  }
  const uint64_t smallest = plan.rows[2].total();
  EXPECT_TRUE(plan_memory(model, use, smallest).any_fits());
  EXPECT_FALSE(plan_memory(model, use, smallest - 1).any_fits());
}

TEST(MemoryPlan, RefusesWhatLlamaRefuses) {
  const ModelInfo model = architecture("tinyllama-1.1b");
  const std::vector<MemoryUse> bad = {
      {.n_ctx = -1},
      {.n_batch = 0},
      {.n_ubatch = -1},
      {.n_ctx = 2'000'000'000},
      {.n_batch = 2'000'000'000},
      {.type_k = "q9_0"},
      {.type_k = ""},
      {.type_v = "F16"},
      {.type_v = "q2_K"},
      {.type_v = "q8_0", .flash_attention = false},
  };
  for (const MemoryUse& use : bad)
    EXPECT_THROW(plan_memory(model, use, 1), UsageError) << use.type_k << use.type_v << use.n_ctx;
  MemoryUse whole;
  whole.n_ctx = 0;  // llama.cpp's way to say: as trained
  EXPECT_EQ(kv_cache_bytes(model, whole), 2048u * 22 * 4 * 64 * 2 * 2);
}

TEST(MemoryPlan, Json) {
  const Json json = to_json(plan_memory(architecture("tinyllama-1.1b"), {}, 1'000'000'000));
  ASSERT_EQ(json.size(), 3u);
  std::vector<std::string> keys;
  for (const auto& [key, value] : json[2].items()) keys.push_back(key);
  EXPECT_THAT(keys, ::testing::ElementsAre("bit_width", "gguf_type", "weights_bytes", "kv_cache_bytes", "compute_bytes",
                                           "adapter_bytes", "overhead_bytes", "total_bytes", "fits"));
  EXPECT_EQ(json[2]["bit_width"], "int4");
  EXPECT_EQ(json[2]["weights_bytes"], 635'990'016);
  EXPECT_EQ(json[0]["fits"], false);
  EXPECT_EQ(json[2]["fits"], true);
}

std::string explain(const char* name, const MemoryUse& use, const char* limit) {
  const ModelInfo model = architecture(name);
  return explain_no_fit(model, plan_memory(model, use, parse_bytes(limit)));
}

TEST(ExplainNoFit, SaysWhatHelps) {
  EXPECT_EQ(explain("llama2-13b", {}, "28GB"), "");
  const ModelInfo model = architecture("llama2-13b");
  EXPECT_EQ(explain_no_fit(model, plan_memory(model, {}, std::nullopt)), "");

  const std::string none = explain("llama2-13b", {}, "4GB");
  EXPECT_THAT(none, AllOf(HasSubstr("llama2-13b needs 7.9"), HasSubstr("limit of 4.00 GB"),
                          HasSubstr("No such setting makes it fit."),
                          HasSubstr("A smaller model fits: openllama-3b as int4 needs 2.")));
  EXPECT_THAT(none, AllOf(HasSubstr("A context of 256 tokens would"), HasSubstr("A q4_0 KV cache would"),
                          Not(HasSubstr("which fits"))));

  const std::string context = explain("llama2-13b", {.n_ctx = 4096}, "8GB");
  EXPECT_THAT(context, AllOf(HasSubstr("A context of 512 tokens would need 7.95 GB, which fits."),
                             Not(HasSubstr("No such setting"))));

  EXPECT_THAT(explain("tinyllama-1.1b", {}, "100MB"),
              HasSubstr("None of the smaller models that HAQA knows fits either"));
}

TEST(ExplainNoFit, EveryFigureComesTrue) {
  // 16384 tokens of llama3-8b: an f16 cache of 2.1 GB; q8_0 fits.
  const MemoryUse use{.n_ctx = 16384};
  const ModelInfo model = architecture("llama3-8b");
  MemoryUse q8 = use, small = use;
  q8.type_k = q8.type_v = "q8_0";
  small.n_ubatch = 128;
  const uint64_t limit = plan_row(model, "Q4_0", q8).total();
  const std::string text = explain_no_fit(model, plan_memory(model, use, limit));
  EXPECT_THAT(text, HasSubstr(fmt::format("A q8_0 KV cache would need {}, which fits.", format_bytes(limit))));
  EXPECT_THAT(text, HasSubstr(fmt::format("(n_ubatch) of 128 would need {}.",
                                          format_bytes(plan_row(model, "Q4_0", small).total()))));
  const size_t at = text.find("A context of ");
  ASSERT_NE(at, std::string::npos);
  MemoryUse context = use;
  context.n_ctx = std::stoi(text.substr(at + 13));
  EXPECT_LE(plan_row(model, "Q4_0", context).total(), limit);
  context.n_ctx += 256;
  EXPECT_GT(plan_row(model, "Q4_0", context).total(), limit);
}

TEST(ExplainNoFit, LeavesOutLeversThatCannotHelp) {
  const std::string text = explain("openllama-3b", {.n_ctx = 256, .n_ubatch = 64}, "1GB");  // heads of 100 take no q8_0
  EXPECT_THAT(text, AllOf(Not(HasSubstr("KV cache")), Not(HasSubstr("context of")), Not(HasSubstr("n_ubatch")),
                          Not(HasSubstr("together"))));
  EXPECT_THAT(text,
              AllOf(HasSubstr("No such setting makes it fit."), HasSubstr("A smaller model fits: tinyllama-1.1b")));
}

}  // namespace
}  // namespace haqa
