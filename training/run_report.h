#pragma once

#include <filesystem>

#include "training/run_setup.h"

namespace echo {

// Writes report.html into the run's folder, from trainer_log.jsonl and config.yaml there: curves of every term, the plan drawn,
// a table of parameters, held-out losses and speeds of teacher and student (before, after each stage), the resolved config.
// Self-contained: nothing is loaded from anywhere. Throws Error (io, input_missing).
void write_run_report(const std::filesystem::path& output_dir, const TrainingRun& run);

}  // namespace echo
