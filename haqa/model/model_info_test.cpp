#include "haqa/model/model_info.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <random>
#include <set>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/json.h"
#include "haqa/model/make_model.h"
#include "haqa/model/model_test_support.h"

namespace haqa {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

template <typename F>
std::string error_of(F&& run) {
  try {
    run();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

std::string error_of_file(const std::filesystem::path& file) {
  return error_of([&] { read_model(file); });
}

// Counts as published with the models; they do not come from this code.
struct Published {
  const char* name;
  int64_t parameters;
  size_t tensors;  // as the converted files on public hubs list them
};

class ArchitectureTest : public ::testing::TestWithParam<Published> {};

TEST_P(ArchitectureTest, HasThePublishedCount) {
  const ModelInfo model = architecture(GetParam().name);
  EXPECT_EQ(model.parameters(), GetParam().parameters);
  EXPECT_EQ(model.tensors.size(), GetParam().tensors);
  EXPECT_EQ(model.main_type(), "F16");
  EXPECT_EQ(model.name, GetParam().name);
  EXPECT_TRUE(model.file.empty());
}

INSTANTIATE_TEST_SUITE_P(
    All, ArchitectureTest,
    ::testing::Values(Published{"llama2-7b", 6'738'415'616, 291}, Published{"llama2-13b", 13'015'864'320, 363},
                      Published{"llama3-8b", 8'030'261'248, 291}, Published{"llama3.2-3b", 3'212'749'824, 255},
                      Published{"openllama-3b", 3'426'473'600, 237}, Published{"tinyllama-1.1b", 1'100'048'384, 201},
                      Published{"gpt2-large", 774'030'080, 436}),
    [](const auto& test) {
      std::string name = test.param.name;
      for (char& c : name)
        if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
      return name;
    });

TEST(Architecture, EveryFileIsTested) {
  EXPECT_EQ(architecture_names().size(), 7u);
}

TEST(Architecture, UnknownNamesListTheKnown) {
  for (const char* name : {"", "llama9", "../models", "tinyllama-1.1b.json"})
    EXPECT_THROW(architecture(name), UsageError) << name;
  EXPECT_THAT(error_of([] { architecture("llama9"); }), AllOf(HasSubstr("llama9"), HasSubstr("tinyllama-1.1b")));
}

TEST(ModelInfo, MainTypeIsThatOfMostNumbersNotMostTensors) {
  ModelInfo model = test_model({});
  EXPECT_EQ(quantized(model, "Q4_0").main_type(), "Q4_0");
  EXPECT_EQ(quantized(model, "Q4_K_M").main_type(), "Q4_K");
  EXPECT_EQ(ModelInfo().main_type(), "");
}

class ReadModel : public ::testing::Test {
 protected:
  std::filesystem::path write(const std::string& name, const std::string& content) {
    std::ofstream(folder_ / name, std::ios::binary) << content;
    return folder_ / name;
  }
  std::filesystem::path model_file(const std::function<void(gguf_context*)>& change = {}, const TestShape& shape = {}) {
    write_model(test_model(shape), folder_ / "model.gguf", change);
    return folder_ / "model.gguf";
  }
  TemporaryFolder folder_;
};

TEST_F(ReadModel, ReadsWhatWasWritten) {
  for (const TestShape& shape : {TestShape{}, TestShape{.tied_output = true}, TestShape{.n_layer = 1, .n_head_kv = 4},
                                 TestShape{.architecture = "gpt2", .n_head_kv = 4, .tied_output = true}}) {
    const ModelInfo want = test_model(shape);
    const ModelInfo got = read_model(model_file({}, shape));
    EXPECT_EQ(got.architecture, shape.architecture);
    EXPECT_EQ(got.n_layer, shape.n_layer);
    EXPECT_EQ(got.n_embd, shape.n_embd);
    EXPECT_EQ(got.n_head, shape.n_head);
    EXPECT_EQ(got.n_head_kv, shape.n_head_kv);
    EXPECT_EQ(got.n_ff, shape.n_ff);
    EXPECT_EQ(got.n_vocab, shape.n_vocab);
    EXPECT_EQ(got.n_ctx_train, shape.n_ctx_train);
    EXPECT_EQ(got.n_embd_head_k, 64);
    EXPECT_EQ(got.n_embd_head_v, 64);
    EXPECT_EQ(got.tied_output, shape.tied_output);
    ASSERT_EQ(got.tensors.size(), want.tensors.size());
    for (size_t i = 0; i < got.tensors.size(); ++i) {
      EXPECT_EQ(got.tensors[i].name, want.tensors[i].name);
      EXPECT_EQ(got.tensors[i].type, want.tensors[i].type);
      EXPECT_EQ(got.tensors[i].shape, want.tensors[i].shape);
      EXPECT_EQ(got.tensors[i].bytes, want.tensors[i].bytes);
    }
  }
}

TEST_F(ReadModel, SizesByHand) {
  // 320·256 twice; per layer 2·256² + 2·256·128 + 3·256·512 + 2·256; 256.
  const ModelInfo model = read_model(model_file());
  const int64_t layer = 2 * 65536 + 2 * 32768 + 3 * 131072 + 512;
  EXPECT_EQ(model.parameters(), 2 * 81920 + 3 * layer + 256);
  EXPECT_EQ(model.weights_bytes(), static_cast<uint64_t>(2 * (2 * 81920 + 3 * (layer - 512)) + 4 * (3 * 512 + 256)));
}

TEST_F(ReadModel, AcceptsFusedAttention) {
  ModelInfo model = test_model({});
  std::erase_if(model.tensors,
                [](const TensorInfo& t) { return t.name.find("attn_k.") + 1 || t.name.find("attn_v.") + 1; });
  for (TensorInfo& tensor : model.tensors) {
    if (const size_t at = tensor.name.find("attn_q."); at != std::string::npos) {
      tensor.name.replace(at, 7, "attn_qkv.");
      tensor.shape = {256, 512};
    }
  }
  write_model(model, folder_ / "fused.gguf");
  EXPECT_EQ(read_model(folder_ / "fused.gguf").n_head_kv, 2);
}

TEST_F(ReadModel, SaysWhatIsWrong) {
  struct Case {
    const char* what;
    std::filesystem::path file;
    std::vector<std::string> says;
  };
  std::filesystem::create_directory(folder_ / "folder");
  write_model(test_model({}), folder_ / "adapter.gguf",
              [](auto* g) { gguf_set_val_str(g, "general.type", "adapter"); });
  write_model(test_model({}), folder_ / "bert.gguf",
              [](auto* g) { gguf_set_val_str(g, "general.architecture", "bert"); });
  write_model(test_model({}), folder_ / "nameless.gguf", [](auto* g) { gguf_remove_key(g, "general.architecture"); });
  write_model(test_model({}), folder_ / "part.gguf", [](auto* g) { gguf_set_val_u16(g, "split.count", 3); });
  write_model(test_model({}), folder_ / "moe.gguf", [](auto* g) { gguf_set_val_u32(g, "llama.expert_count", 8); });
  const std::vector<Case> cases = {
      {"missing", folder_ / "none.gguf", {"none.gguf", "no such file"}},
      {"folder", folder_ / "folder", {"folder", "is a folder", "haqa convert " + (folder_ / "folder").string()}},
      {"empty", write("empty.gguf", ""), {"empty.gguf", "is empty"}},
      {"device", "/dev/null", {"/dev/null", "no regular file"}},
      {"text", write("text.gguf", "once upon a time"), {"not a GGUF file", "once"}},
      {"short", write("short.gguf", "GG"), {"not a GGUF file"}},
      {"magic only", write("magic.gguf", "GGUF"), {"truncated or damaged"}},
      {"old version", write("old.gguf", std::string("GGUF\1\0\0\0", 8) + std::string(16, '\0')), {"GGUFv1"}},
      {"huge counts",
       write("huge.gguf", std::string("GGUF\3\0\0\0", 8) + std::string(16, '\x7f')),
       {"truncated or damaged"}},
      {"vocabulary", default_vocabulary(), {"vocabulary without weights"}},
      {"adapter", folder_ / "adapter.gguf", {"holds no model but 'adapter'"}},
      {"architecture", folder_ / "bert.gguf", {"'bert' is not supported", "llama and gpt2 are"}},
      {"nameless", folder_ / "nameless.gguf", {"lacks 'general.architecture'"}},
      {"part", folder_ / "part.gguf", {"llama-gguf-split --merge"}},
      {"mixture of experts", folder_ / "moe.gguf", {"mixture of experts"}},
  };
  for (const Case& c : cases) {
    for (const std::string& part : c.says) EXPECT_THAT(error_of_file(c.file), HasSubstr(part)) << c.what;
    EXPECT_THAT(error_of_file(c.file), Not(HasSubstr("\n"))) << c.what;
  }
}

TEST_F(ReadModel, KeysOutOfRange) {
  struct Case {
    const char* key;
    std::function<void(gguf_context*, const char*)> change;
    const char* says;
  };
  const auto number = [](uint32_t value) {
    return [value](gguf_context* g, const char* key) { gguf_set_val_u32(g, key, value); };
  };
  const auto remove = [](gguf_context* g, const char* key) { gguf_remove_key(g, key); };
  const auto text = [](gguf_context* g, const char* key) { gguf_set_val_str(g, key, "three"); };
  const auto layers = [](gguf_context* g, const char* key) {
    const uint32_t values[] = {4, 4, 2};
    gguf_set_arr_data(g, key, GGUF_TYPE_UINT32, values, 3);
  };
  const auto nothing = [](gguf_context* g, const char* key) {
    gguf_set_arr_data(g, key, GGUF_TYPE_UINT32, nullptr, 0);
  };
  const auto enormous = [](gguf_context* g, const char* key) { gguf_set_val_u64(g, key, UINT64_MAX); };
  const auto fraction = [](gguf_context* g, const char* key) { gguf_set_val_f32(g, key, 3.0f); };
  const std::vector<Case> cases = {
      {"llama.block_count", remove, "lacks 'llama.block_count'"},
      {"llama.embedding_length", remove, "lacks 'llama.embedding_length'"},
      {"llama.attention.head_count", remove, "lacks 'llama.attention.head_count'"},
      {"llama.feed_forward_length", remove, "lacks 'llama.feed_forward_length'"},
      {"llama.context_length", remove, "lacks 'llama.context_length'"},
      {"llama.block_count", number(0), "is 0, expected 1 to 512"},
      {"llama.block_count", number(513), "is 513, expected 1 to 512"},
      {"llama.block_count", enormous, "expected 1 to 512"},
      {"llama.block_count", text, "is no whole number"},
      {"llama.block_count", fraction, "is no whole number"},
      {"llama.block_count", nothing, "is no whole number"},
      {"llama.block_count", number(2), "none"},  // llama.cpp would refuse the surplus tensors; planning need not
      {"llama.block_count", number(4), "lacks the tensor 'blk.3."},
      {"llama.embedding_length", number(512), "has the shape"},
      {"llama.attention.head_count", layers, "differs from layer to layer"},
      {"llama.attention.head_count", number(0), "is 0"},
      {"llama.attention.head_count", number(512), "make no llama model"},
      {"llama.attention.head_count_kv", number(3), "make no llama model"},
      {"llama.attention.key_length", number(32), "make no llama model"},
      {"llama.rope.dimension_count", number(32), "make no llama model"},
      {"llama.feed_forward_length", number(4000000000u), "expected 1 to"},
  };
  for (const Case& c : cases) {
    const auto file = model_file([&](gguf_context* g) { c.change(g, c.key); });
    if (std::string(c.says) == "none")
      EXPECT_NO_THROW(read_model(file)) << c.key;
    else
      EXPECT_THAT(error_of_file(file), HasSubstr(c.says)) << c.key;
  }
  const uint32_t same[] = {4, 4, 4};
  EXPECT_EQ(read_model(model_file([&](auto* g) {
              gguf_set_arr_data(g, "llama.attention.head_count", GGUF_TYPE_UINT32, same, 3);
            })).n_head,
            4);
}

TEST_F(ReadModel, NamesFitForTerminalsAndJson) {
  const std::string name = std::string("a\x1b[31m\xff\n") + std::string(5000, 'b');
  const auto file = model_file([&](auto* g) { gguf_set_val_str(g, "general.name", name.c_str()); });
  const ModelInfo model = read_model(file);
  EXPECT_LE(model.name.size(), 110u);
  EXPECT_THAT(model.name, AllOf(Not(HasSubstr("\x1b")), Not(HasSubstr("\n")), Not(HasSubstr("\xff"))));
  EXPECT_NO_THROW(Json(model.name).dump());
  EXPECT_EQ(read_model(model_file([](auto* g) { gguf_remove_key(g, "general.name"); })).name, "model");
}

TEST_F(ReadModel, TruncatedAnywhereIsAnError) {
  const auto whole = model_file();
  const uint64_t size = std::filesystem::file_size(whole);
  const uint64_t header = gguf_get_data_offset(GgufFile(whole).context());
  std::vector<uint64_t> ends;
  for (uint64_t end = 0; end < header + 256; end += 64) ends.push_back(end);
  for (uint64_t end = header + 256; end < size; end += size / 40) ends.push_back(end);
  // The last tensor ends before its padding, so only what cuts into it can be noticed.
  const TensorInfo last = read_model(whole).tensors.back();
  ends.push_back(size - 1 - (32 - last.bytes % 32) % 32);
  for (const uint64_t end : ends) {
    std::filesystem::copy_file(whole, folder_ / "cut.gguf", std::filesystem::copy_options::overwrite_existing);
    std::filesystem::resize_file(folder_ / "cut.gguf", end);
    const std::string error = error_of_file(folder_ / "cut.gguf");
    EXPECT_THAT(error, HasSubstr("cut.gguf")) << end << ": " << error;
    EXPECT_NE(error, "no error") << end;
    if (end > header) {
      EXPECT_THAT(error, HasSubstr("is truncated: tensor '")) << end;
    }
  }
  EXPECT_NO_THROW(read_model(whole));
}

/// What everything that uses a ModelInfo relies on.
void expect_sane(const ModelInfo& m, uint64_t file_bytes) {
  EXPECT_TRUE(m.architecture == "llama" || m.architecture == "gpt2");
  EXPECT_GE(m.n_layer, 1);
  EXPECT_LE(m.n_layer, 512);
  for (const int size : {m.n_embd, m.n_head, m.n_head_kv, m.n_ff, m.n_vocab, m.n_ctx_train, m.n_embd_head_k})
    EXPECT_GT(size, 0);
  EXPECT_LE(m.weights_bytes(), file_bytes);
  EXPECT_GT(m.parameters(), 0);
}

TEST_F(ReadModel, FlippedBytesGiveAnErrorOrASaneModel) {
  const auto file = model_file();
  const uint64_t size = std::filesystem::file_size(file);
  const std::string good = read_file(file).substr(0, gguf_get_data_offset(GgufFile(file).context()));
  std::mt19937 random(1);
  int refused = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string bad = good;
    for (int flips = 1 + static_cast<int>(random() % 3); flips > 0; --flips)
      bad[random() % bad.size()] = static_cast<char>(random());
    std::fstream(file, std::ios::in | std::ios::out | std::ios::binary)
        .write(bad.data(), static_cast<std::streamsize>(bad.size()));
    try {
      expect_sane(read_model(file), size);
    } catch (const Error& error) {
      ++refused;
      EXPECT_THAT(error.what(), HasSubstr("model.gguf"));
      EXPECT_THAT(std::string(error.what()), Not(HasSubstr("\n")));
    }
  }
  EXPECT_GT(refused, 500);  // most bytes of a header matter
  EXPECT_LT(refused, 3000);
}

TEST_F(ReadModel, HugeClaimsCostNeitherTimeNorMemory) {
  // An array of 2^27 texts in a sparse file large enough to hold their lengths: gguf.h would take 4 GB for it.
  std::string head("GGUF\3\0\0\0", 8);
  const auto put = [&head](auto value) { head.append(reinterpret_cast<const char*>(&value), sizeof value); };
  put(int64_t{1}), put(int64_t{1}), put(uint64_t{1});
  head += 'k';
  put(int32_t{GGUF_TYPE_ARRAY}), put(int32_t{GGUF_TYPE_STRING}), put(uint64_t{1} << 27);
  const auto file = write("sparse.gguf", head);
  std::filesystem::resize_file(file, 4'000'000'000);
  const auto start = std::chrono::steady_clock::now();
  EXPECT_THAT(error_of_file(file), HasSubstr("truncated or damaged"));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(2));
}

TEST_F(ReadModel, SaysNothingOnStderrAndRestoresTheLogger) {
  ggml_log_set([](ggml_log_level, const char* text, void* user) { *static_cast<std::string*>(user) += text; }, nullptr);
  std::string heard;
  ggml_log_set([](ggml_log_level, const char* text, void* user) { *static_cast<std::string*>(user) += text; }, &heard);
  ::testing::internal::CaptureStderr();
  EXPECT_THROW(read_model(write("bad.gguf", "GGUF rubbish that is long enough")), Error);
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
  EXPECT_EQ(heard, "");
  ggml_log_callback callback = nullptr;
  void* user = nullptr;
  ggml_log_get(&callback, &user);
  EXPECT_EQ(user, &heard);
  ggml_log_set(nullptr, nullptr);
}

}  // namespace
}  // namespace haqa
