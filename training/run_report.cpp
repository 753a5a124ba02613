#include "training/run_report.h"

#include <fmt/format.h>
#include <omp.h>

#include <cmath>
#include <limits>

#include "base/file.h"
#include "config/check.h"
#include "config/reading.h"
#include "report/html.h"
#include "report/numbers.h"
#include "report/svg.h"
#include "training/training_log.h"

namespace echo {
namespace {

using nlohmann::json;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// The log by kind of line, and the positions of its stages.
struct RunLog {
  std::vector<json> training, teacher, student;  // the last two: evaluations on held-out text
  int64_t skipped = 0;
  std::vector<TrainingStage> stages;
  std::vector<SvgBand> stage_bands;  // every second stage, in steps
};

double number(const json& line, const char* key) {
  const auto found = line.find(key);
  return found != line.end() && found->is_number() ? found->get<double>() : kNaN;
}

int64_t whole(const json& line, const char* key) {
  const double value = number(line, key);
  return std::abs(value) < 1e18 ? int64_t(value) : 0;
}

std::string word(const json& line, const char* key) {
  const auto found = line.find(key);
  return found != line.end() && found->is_string() ? found->get<std::string>() : "";
}

RunLog read_log(const fs::path& file, std::vector<TrainingStage> stages) {
  RunLog log;
  for (json& line : TrainingLog::read(file)) {
    const std::string event = word(line, "event");
    if (event == "train")
      log.training.push_back(std::move(line));
    else if (event == "evaluation")
      (word(line, "model") == "teacher" ? log.teacher : log.student).push_back(std::move(line));
    else if (event == "skipped")
      ++log.skipped;
  }
  log.stages = std::move(stages);
  double first = 0;
  for (size_t i = 0; i < log.stages.size(); ++i) {
    const double last = first + double(log.stages[i].steps);
    if (i % 2 == 1) log.stage_bands.push_back({first, last, fmt::format("stage {}", log.stages[i].number)});
    first = last;
  }
  return log;
}

std::string fixed(double value, int digits) { return std::isfinite(value) ? fmt::format("{:.{}f}", value, digits) : "-"; }
std::string percent(double share) { return std::isfinite(share) ? fmt::format("{:.1f} %", 100 * share) : "-"; }

// ---- curves ------------------------------------------------------------------------------------------------------

struct Curve {
  const char* name;
  const std::vector<json>* lines;
  const char* key;
  bool dashed = false, markers = false;
};

// One picture of several keys of the log over the steps. Keys that were not logged are omitted, and so is a picture without
// any.
std::string picture(const RunLog& log, const char* title, const char* explanation, const char* y_label,
                    const std::vector<Curve>& curves, bool log_y = false) {
  SvgLineChart chart;
  chart.title = title;
  chart.x_label = "optimizer step";
  chart.y_label = y_label;
  chart.log_y = log_y;
  chart.height = 300;
  chart.x_bands = log.stage_bands;
  for (const Curve& curve : curves) {
    SvgSeries series{curve.name, {}, {}, curve.dashed, curve.markers};
    bool any = false;
    double last_stage = kNaN;
    for (const json& line : *curve.lines) {
      // Two evaluations of the same step (at the end of a stage, and when the run was stopped just before it) are equal.
      const double step = number(line, "step");
      if (!series.x.empty() && !(step > series.x.back())) continue;
      const double stage = number(line, "stage");
      if (word(line, "event") == "train" && stage != last_stage && !series.x.empty()) {
        // Measured values jump between stages, so no line connects them.
        series.x.push_back((series.x.back() + step) / 2);
        series.y.push_back(kNaN);
      }
      last_stage = stage;
      series.x.push_back(step);
      series.y.push_back(number(line, curve.key));
      any = any || std::isfinite(series.y.back());
    }
    // A stage with a single line of the log has no line to draw, so it gets markers.
    series.markers = series.markers || curve.lines->size() < 8;
    if (any) chart.series.push_back(std::move(series));
  }
  if (chart.series.empty()) return "";
  return fmt::format("<h3>{}</h3>\n<p class=\"soft\">{}</p>\n<div class=\"wide\">{}</div>\n", escape_html(title),
                     escape_html(explanation), svg_line_chart(chart));
}

std::string curves(const RunLog& log) {
  // The teacher does not change, so its curve is a horizontal line across the run.
  std::vector<json> teacher_level;
  if (!log.teacher.empty() && !log.training.empty())
    for (const json* at : {&log.teacher.front(), &log.training.back()}) {
      teacher_level.push_back(log.teacher.front());
      teacher_level.back()["step"] = (*at)["step"];
    }
  const auto *train = &log.training, *held_out = &log.student, *teacher = &teacher_level;
  std::string html = "<h2>Curves</h2>\n";
  if (log.training.empty()) return html + "<p>No step was logged.</p>\n";
  if (!log.stage_bands.empty())
    html +=
        "<p class=\"soft\">The shaded part is stage 2, with another loss and a fresh optimizer and schedule. Each point of a "
        "line is "
        "the mean over the steps since the previous line of the log. Lines end with their stage. Dots are held-out text.</p>\n";
  html += picture(log, "Training loss",
                  "The weighted sum that training minimises. Its terms differ between stages, so the levels of two stages "
                  "cannot be compared.",
                  "loss", {{"loss", train, "loss"}});
  html += picture(log, "Cross-entropy on true labels", "Of the next token, in nats.", "nats",
                  {{"training", train, "true_label"},
                   {"held-out", held_out, "loss", false, true},
                   {"teacher, held-out", teacher, "loss", true}});
  html += picture(log, "Divergence from the teacher", "Between the next-token distributions of teacher and student, in nats.",
                  "nats",
                  {{"KL(teacher || student)", train, "kl_teacher_student"},
                   {"KL(student || teacher)", train, "kl_student_teacher"},
                   {"KL(teacher || student), held-out", held_out, "kl_teacher_student", false, true}},
                  true);
  html += picture(log, "Cross-entropy against the teacher's first choice", "The hard labels, in nats.", "nats",
                  {{"training", train, "hard_label"}});
  html += picture(log, "Hidden states at the ends of the blocks",
                  "Squared error between student and teacher: raw, and divided by the mean "
                  "square of the teacher's states.",
                  "squared error", {{"raw", train, "hidden_mse"}, {"relative", train, "hidden_relative"}}, true);
  html += picture(log, "Agreement and accuracy",
                  "Share of positions where the student's most likely token is the teacher's, and where it is "
                  "the true one.",
                  "share",
                  {{"agreement", train, "agreement"},
                   {"accuracy", train, "accuracy"},
                   {"agreement, held-out", held_out, "agreement", false, true},
                   {"accuracy, held-out", held_out, "accuracy", false, true}});
  html += picture(log, "Learning rate", "Of the last step before each line of the log.", "rate",
                  {{"learning rate", train, "learning_rate"}});
  html += picture(log, "Gradient norm", "Over all parameters, before clipping.", "norm", {{"norm", train, "grad_norm"}}, true);
  html += picture(log, "Speed", "Tokens trained on per second, including waiting for data, without evaluation and saving.",
                  "tokens/s", {{"tokens/s", train, "tokens_per_second"}});
  return html;
}

// ---- table and notes ---------------------------------------------------------------------------------------------

std::string results(const RunLog& log, const TrainingRun& run) {
  HtmlTable table;
  const bool compared = run.teacher != nullptr;
  table.headers = {"model", "parameters", "held-out loss"};
  if (compared) table.headers.insert(table.headers.end(), {"KL(teacher || model)", "top-1 agreement"});
  table.headers.insert(table.headers.end(), {"accuracy", "tokens/s"});
  table.numeric = {false, true, true, true, true, true, true};
  const auto row = [&](const std::string& name, int64_t parameters, const json& line, bool is_teacher) {
    std::vector<std::string> cells = {name, grouped(parameters), fixed(number(line, "loss"), 4)};
    if (compared) {
      cells.push_back(is_teacher ? "0" : fixed(number(line, "kl_teacher_student"), 4));
      cells.push_back(is_teacher ? "100 %" : percent(number(line, "agreement")));
    }
    const double speed = number(line, "tokens_per_second");
    cells.insert(cells.end(), {percent(number(line, "accuracy")), std::isfinite(speed) ? grouped(int64_t(speed)) : "-"});
    table.rows.push_back(std::move(cells));
  };
  if (compared && !log.teacher.empty())
    row("teacher", parameter_count(run.teacher->config(), run.teacher->leader_map()), log.teacher.front(), true);
  const std::string model = compared ? "student" : "model";
  for (const json& line : log.student) {
    const std::string when = word(line, "when");
    if (when == "start") row(model + " before training", run.student->parameter_count(), line, false);
    if (when == "stage_end")
      row(log.stages.size() > 1 ? fmt::format("{} after stage {}", model, whole(line, "stage")) : model + " after training",
          run.student->parameter_count(), line, false);
  }
  if (table.rows.empty()) return "<h2>Result</h2>\n<p>No held-out text was evaluated.</p>\n";
  return "<h2>Result</h2>\n" + html_table(table);
}

std::string notes(const RunLog& log, const TrainingRun& run) {
  const TrainConfig& config = run.config;
  std::string html = "<ul>\n";
  const auto item = [&](const std::string& text) { html += "<li>" + escape_html(text) + "</li>\n"; };
  if (!log.student.empty()) {
    const int64_t tokens = whole(log.student.back(), "tokens");
    item(
        fmt::format("Held-out values are means over {} tokens in sequences of {}, the same for every row. One run with one "
                    "seed ({}): small "
                    "differences between rows may be chance.",
                    grouped(tokens), config.data.sequence_length, config.seed));
    item(fmt::format(
        "tokens/s in the table: a forward pass over a batch of held-out text, head included, {} thread{}, the fastest batch of "
        "each row, on the machine that trained, which may have had other work to do. It does not measure generation.",
        omp_get_max_threads(), omp_get_max_threads() == 1 ? "" : "s"));
  }
  if (!log.training.empty())
    item(fmt::format("Trained on {} tokens, {} per step; peak memory of all tensors {} MiB.",
                     grouped(whole(log.training.back(), "tokens")), grouped(tokens_per_step(config, run.data.world)),
                     grouped(whole(log.training.back(), "peak_memory_bytes") >> 20)));
  if (log.skipped > 0)
    item(fmt::format("{} step(s) were skipped because the loss or the gradient was not finite.", log.skipped));
  return html + "</ul>\n";
}

std::string plan_section(const TrainingRun& run) {
  const LeaderMap& map = run.description.leader_map;
  std::string html = "<h2>Who shares attention</h2>\n";
  html += "<div class=\"wide\">" + svg_plan_strip(map.leaders()) + "</div>\n";
  html += fmt::format("<p>{} of {} layers follow: {}.", map.follower_count(), map.layers(), escape_html(map.describe()));
  if (map.shares()) html += " A follower uses its leader&#39;s attention matrix and has no query and key projection.";
  html += "</p>\n";
  std::vector<std::string> warnings;
  for (const std::string& remark : run.remarks) {
    if (remark.starts_with("warning: "))
      warnings.push_back(remark.substr(9));
    else
      html += "<p>" + escape_html(remark) + "</p>\n";
  }
  return html + html_warnings(warnings);
}

std::string introduction(const TrainingRun& run) {
  const TrainConfig& config = run.config;
  std::string text = fmt::format("Mode {}, data {}", settings::name_of(config.mode), config.data.path.text());
  if (run.teacher)
    text += ", teacher " + config.teacher.model_name_or_path;
  else if (!config.student.model_name_or_path.empty())
    text += ", from " + config.student.model_name_or_path;
  for (const TrainingStage& stage : training_stages(config, run.data.world))
    text += fmt::format("; stage {}: {} steps on {}", stage.number, stage.steps,
                        stage.distillation ? "the teacher" : "true labels");
  return "<p>" + escape_html(text) + ".</p>\n";
}

}  // namespace

void write_run_report(const fs::path& output_dir, const TrainingRun& run) {
  const RunLog log = read_log(output_dir / "trainer_log.jsonl", training_stages(run.config, run.data.world));
  std::string body = introduction(run);
  body += results(log, run) + notes(log, run);
  body += plan_section(run);
  body += curves(log);
  body += "<h2>Settings</h2>\n<details><summary>Every key with its value</summary>\n<pre>" +
          escape_html(print_config(run.config)) + "</pre></details>\n";
  const fs::path folder = fs::absolute(output_dir).lexically_normal();  // ends with a slash when output_dir does
  const std::string name = (folder.has_filename() ? folder : folder.parent_path()).filename().string();
  write_file_atomically(output_dir / "report.html", html_page("Training run " + name, body));
}

}  // namespace echo
