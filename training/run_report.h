#pragma once

#include <filesystem>

#include "training/run_setup.h"

namespace echo {

// Writes report.html into the run's folder, from the trainer_log.jsonl and config.yaml in it: curves of every term, a drawing
// of the plan, a table with parameters, held-out losses and speeds of teacher and student (before, and after each stage), and
// the complete config. Self-contained: the page loads nothing. Throws Error (io, input_missing).
void write_run_report(const std::filesystem::path& output_dir, const TrainingRun& run);

}  // namespace echo
