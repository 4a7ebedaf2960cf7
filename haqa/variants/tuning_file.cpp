#include "haqa/variants/tuning_file.h"

#include <algorithm>

#include "haqa/base/file.h"
#include "haqa/base/fnv.h"
#include "haqa/kernel/processor_levels.h"

namespace haqa {

ModelTuning ModelTuning::with(const ServedVariant& variant) const {
  ModelTuning tuning = *this;
  std::erase(tuning.stock, variant.name());
  std::erase_if(tuning.variants, [&](const ServedVariant& v) { return v.name() == variant.name(); });
  tuning.variants.push_back(variant);
  return tuning;
}

ModelTuning ModelTuning::with_stock(const std::string& kernel) const {
  ModelTuning tuning = *this;
  std::erase_if(tuning.variants, [&](const ServedVariant& v) { return v.name() == kernel; });
  if (std::find(stock.begin(), stock.end(), kernel) == stock.end()) tuning.stock.push_back(kernel);
  return tuning;
}

Json to_json(const ServedVariant& v) {
  return {{"kernel", v.kernel}, {"type", v.type},     {"file", v.file},
          {"hash", v.hash},     {"source", v.source}, {"parameters", v.parameters}};
}

ServedVariant variant_from_json(const Json& json) {
  return {json.at("kernel"), json.at("type"), json.at("file"),
          json.at("source"), json.at("hash"), json.at("parameters")};
}

std::string variant_hash(const std::filesystem::path& file) {
  return Fnv1a<uint64_t>().add(read_file(file)).digits();
}

void write_tuning(const ModelTuning& tuning, const std::filesystem::path& file) {
  Json kernels = Json::array();
  for (const ServedVariant& v : tuning.variants) kernels.push_back(to_json(v));
  const Json json = {{"format", 1}, {"processor", processor_identity()}, {"stock", tuning.stock}, {"kernels", kernels}};
  write_file(file, json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

}  // namespace haqa
