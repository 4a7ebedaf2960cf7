#pragma once
#include <string>
#include <vector>

#include "haqa/report/findings.h"

namespace haqa {

/// Readings of the member `kernels` of a run's summary: the module's kernels, tuned in the model. As in
/// report/report.h, whatever is missing is left out.

/// A row for stock code in a kernel's place, and one for each round.
Table served_kernels_table(const Part& kernels);
/// What each kernel's rounds came to, in a sentence.
std::vector<std::string> served_kernels_answer(const Part& kernels);
/// A row's reasons, in the order of the table: of a proposal, or of a failure.
std::vector<std::string> served_kernels_reasons(const Part& kernels);

}  // namespace haqa
