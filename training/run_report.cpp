#include "training/run_report.h"

#include "base/file.h"
#include "base/html.h"

namespace echo {

void write_run_report(const std::filesystem::path& output_dir, const TrainingRun& run) {
  write_file_atomically(output_dir / "report.html",
                        html_page("Run " + output_dir.filename().string(),
                                  "<p>" + escape_html(run.description.leader_map.describe()) + "</p>"));
}

}  // namespace echo
