#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "analysis/analysis_file.h"

namespace echo {

// The readable results of an analysis. All three state the number of samples and the standard error.

// Plain text for the terminal: ranking, largest gap, unchanged layers, table of plans, warnings.
std::string analysis_summary(const Analysis& analysis);

// The heat map of the flat similarity as a picture file.
std::string similarity_svg(const Analysis& analysis);

// A self-contained page: heat maps of all variants with values on hover, a curve of layer means with the gap marked, and the
// plans as a table and as strips.
std::string report_html(const Analysis& analysis);

// Writes analysis.json, similarity.svg and report.html into `folder` (created when missing), each atomically. Returns their
// paths. All three are built before the first is written. Throws Error (io, numerical).
std::vector<std::filesystem::path> write_analysis(const Analysis& analysis, const std::filesystem::path& folder);

// "128 samples of 512 tokens; standard error of an entry: median 0.002, at most 0.006", or the known part of it.
std::string evidence(const Analysis& analysis);

}  // namespace echo
