// Ours in bench/quantization: does what run.py asks for on standard input, a word and a number of threads a line, and
// answers with the seconds that it took. Arguments: files of floats, weights [4096, 4096] and activations [512, 4096],
// and a folder for results, which run.py compares with the peer's.
#include <fmt/format.h>

#include <chrono>
#include <cstring>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <string>

#include "haqa/quantization/adamw_8bit.h"
#include "haqa/quantization/dynamic_map.h"
#include "haqa/quantization/int8.h"
#include "haqa/quantization/nf4.h"
#include "haqa/quantization/parallel_test_support.h"

namespace {

constexpr int64_t kRows = 4096;
constexpr int64_t kColumns = 4096;

std::vector<float> read_floats(const char* file) {
  std::ifstream in(file, std::ios::binary | std::ios::ate);
  std::vector<float> values(static_cast<size_t>(in.tellg()) / sizeof(float));
  in.seekg(0);
  in.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(float)));
  return values;
}

template <typename T>
void write(const std::string& file, const std::vector<T>& values) {
  std::ofstream out(file, std::ios::binary);
  out.write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(T)));
}

/// As training does, by parts of blocks.
template <typename T>
void dequantize_by_rows(const haqa::Quantized4Bit& from, std::span<T> out, int threads) {
  haqa::on_threads(threads)(static_cast<int64_t>(out.size()) / kColumns, 64, [&](int64_t begin, int64_t end) {
    const auto first = static_cast<size_t>(begin * kColumns), count = static_cast<size_t>((end - begin) * kColumns);
    haqa::dequantize(from, begin * kColumns, out.subspan(first, count));
  });
}

}  // namespace

int main(int, char** argv) {
  using namespace haqa;
  const auto weights = read_floats(argv[1]);
  const auto x = read_floats(argv[2]);
  const std::string folder = argv[3];
  const auto nf4 = quantize_4bit(weights, Format4Bit::nf4, true, on_threads(2));
  const auto int8 = quantize_rows(weights, kRows, on_threads(2));
  std::vector<float> floats(weights.size());
  std::vector<uint16_t> halves(weights.size());
  Int8Activations activations;  // kept from step to step
  std::vector<float> product(x.size() / kColumns * kRows);

  // AdamW: the weights as gradients, on parameters that start at zero.
  std::vector<float> parameters(weights.size()), m_absmax(weights.size() / kBlock8Bit), v_absmax(m_absmax.size());
  std::vector<uint8_t> m(weights.size()), v(weights.size());
  int64_t step = 0;

  const std::map<std::string, std::function<void(int)>> tasks = {
      {"fill", [&](int) { std::memset(floats.data(), 1, weights.size() * sizeof(float)); }},
      {"copy", [&](int) { std::memcpy(floats.data(), weights.data(), weights.size() * sizeof(float)); }},
      {"float32", [&](int threads) { dequantize_by_rows(nf4, std::span(floats), threads); }},
      {"bfloat16", [&](int threads) { dequantize_by_rows(nf4, std::span(halves), threads); }},
      // What training does where it multiplies by parts: 4 MB of a layer at a time, which stay in the cache.
      {"float32-part", [&](int threads) { dequantize_by_rows(nf4, std::span(floats).first(256 * kColumns), threads); }},
      {"quantize", [&](int threads) { quantize_4bit(weights, Format4Bit::nf4, true, on_threads(threads)); }},
      {"int8",
       [&](int threads) {
         quantize_activations(x, kColumns, 6, activations, on_threads(threads));
         int8_matmul(activations, int8, product, on_threads(threads));
       }},
      {"adamw", [&](int threads) {
         adamw_8bit_step(parameters, weights, {m, m_absmax, v, v_absmax}, {}, ++step, on_threads(threads));
       }}};
  std::string name;
  for (int threads = 1; std::cin >> name >> threads;) {
    const auto begin = std::chrono::steady_clock::now();
    tasks.at(name)(threads);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    if (name == "float32") write(folder + "/float32", floats);
    if (name == "bfloat16") write(folder + "/bfloat16", halves);
    if (name == "int8") write(folder + "/int8", product);
    if (name == "adamw" && step == 1) write(folder + "/adamw", parameters);
    std::cout << fmt::format("{:.9f}", seconds.count()) << std::endl;
  }
}
