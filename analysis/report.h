#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "analysis/analysis_file.h"

namespace echo {

// What a person reads of an analysis. All three say how many samples the figures rest on, and how sure they are.

// Plain text for the terminal: ranking, largest gap, unchanged layers, the table of plans, warnings.
std::string analysis_summary(const Analysis& analysis);

// The heat-map of the flat similarity as a picture file.
std::string similarity_svg(const Analysis& analysis);

// A self-contained page: heat-maps of all variants with values on hover, curve of layer means with the gap marked, plans as
// table and as strips.
std::string report_html(const Analysis& analysis);

// Writes analysis.json, similarity.svg and report.html into `folder` (created when missing), each atomically; returns their
// paths. All three are built before the first is written. Throws Error (io, numerical).
std::vector<std::filesystem::path> write_analysis(const Analysis& analysis, const std::filesystem::path& folder);

// "128 samples of 512 tokens; standard error of an entry: median 0.002, at most 0.006", or what of that is known.
std::string evidence(const Analysis& analysis);

}  // namespace echo
