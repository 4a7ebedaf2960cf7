#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "haqa/download/catalogue.h"
#include "haqa/http/http.h"

namespace haqa {

/// Hugging Face's public server of data sets. Source: https://huggingface.co/docs/dataset-viewer/rows
inline constexpr const char* kDataSetsServer = "https://datasets-server.huggingface.co";

struct FetchOptions {
  std::string server = kDataSetsServer;  ///< an http or https address; /rows is added
  int tries = 8;                         ///< of each request, where the server is busy or the connection breaks off
  double first_wait_s = 1;  ///< doubles with each try, up to a minute; what the server asks for counts more
  double timeout_s = 60;    ///< of one request
  Wait wait = wait_interruptibly;
  std::function<void(const std::string&)> note = [](const std::string&) {};  ///< hears of pauses of 5 s and more
  std::function<void(int64_t done, int64_t total)> progress = [](int64_t, int64_t) {};
};

/// Writes the rows of a data set to a file, one JSON object a line with the data set's own fields, labels as the
/// integers that they are; in pages of 100 through GET /rows. Returns the number of rows.
/// The file appears when it is whole. Until then the rows are in FILE.unfinished, after a line that says of what; an
/// interrupted fetch goes on there.
/// Throws Error where the server cannot be reached, has no such data set or gives rows that are incomplete (it says
/// what to fetch by hand), or the file cannot be written; UsageError for a server that is no address; Interrupted.
int64_t fetch_rows(const DataSet& set, const std::filesystem::path& file, const FetchOptions& options);

}  // namespace haqa
