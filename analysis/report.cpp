#include "analysis/report.h"

#include <fmt/format.h>

#include <algorithm>

#include "report/html.h"
#include "report/numbers.h"
#include "report/svg.h"

namespace echo {
namespace {

struct VariantText {
  const char* label;
  const char* explanation;
};

VariantText text_of(SimilarityVariant variant) {
  switch (variant) {
    case SimilarityVariant::flat:
      return {"flat", "Cosine of two layers' attention matrices, all heads and rows as one vector"};
    case SimilarityVariant::per_head:
      return {"per head", "Cosine head by head, then averaged over heads"};
    case SimilarityVariant::per_row:
      return {"per row", "Cosine row by row of every head, then averaged: every token counts the same"};
    case SimilarityVariant::no_first_column:
      return {"without first column",
              "As flat, without the first token's column: many heads rest on that token, which makes layers look more alike"};
  }
  return {"", ""};
}

std::string with_error(const SimilarityEstimate& estimate, int64_t i, int64_t j) {
  std::string text = fmt::format("{:.4f}", estimate.mean(i, j));
  if (estimate.standard_error && i != j) text += fmt::format(" \u00b1 {:.4f}", (*estimate.standard_error)(i, j));
  return text;
}

SvgHeatMap heat_map_of(const SimilarityEstimate& estimate, const std::string& title) {
  SvgHeatMap map{title, "layer", estimate.mean.values(), {}, 0.0, 1.0};
  map.low = std::min(0.0, *std::min_element(map.values.begin(), map.values.end()));
  for (int64_t i = 0; i < estimate.mean.size(); ++i)
    for (int64_t j = 0; j < estimate.mean.size(); ++j)
      map.hover.push_back(fmt::format("layers {} and {}: {}", i, j, with_error(estimate, i, j)));
  return map;
}

// Runs of consecutive layers as bands, half a layer wider on each side.
std::vector<SvgBand> bands_of(const std::vector<int64_t>& layers, const std::string& label) {
  std::vector<SvgBand> bands;
  for (const int64_t layer : layers) {
    if (!bands.empty() && bands.back().to == double(layer) - 0.5)
      bands.back().to = double(layer) + 0.5;
    else
      bands.push_back({double(layer) - 0.5, double(layer) + 0.5, label});
  }
  return bands;
}

std::string heat_map_section(const Analysis& analysis) {
  std::string html = "<h2>How alike the layers are</h2>\n<div class=\"maps\">\n";
  for (const SimilarityVariant variant : kSimilarityVariants) {
    if (!analysis[variant]) continue;
    const std::string_view name = variant_name(variant);
    html += fmt::format("<input type=\"radio\" name=\"variant\" id=\"choose-{0}\"{1}/><label for=\"choose-{0}\">{2}</label>\n",
                        name, variant == SimilarityVariant::flat ? " checked=\"checked\"" : "", text_of(variant).label);
  }
  for (const SimilarityVariant variant : kSimilarityVariants) {
    if (!analysis[variant]) continue;
    html += fmt::format("<div class=\"map\" id=\"map-{}\">\n<p class=\"soft\">{}.</p>\n", variant_name(variant),
                        escape_html(text_of(variant).explanation));
    html += "<div class=\"wide\">" +
            svg_heat_map(heat_map_of(*analysis[variant], fmt::format("Similarity of layers, {}", text_of(variant).label))) +
            "</div>\n";
    html += "<p class=\"readout\">Point at a cell to read its value.</p>\n</div>\n";
  }
  html +=
      "</div>\n<script>document.querySelectorAll('.map').forEach(function (map) {\n"
      "  var out = map.querySelector('.readout');\n"
      "  map.addEventListener('mouseover', function (event) {\n"
      "    if (event.target.classList.contains('cell')) out.textContent = event.target.querySelector('title').textContent;\n"
      "  });\n});</script>\n";
  return html;
}

std::string layer_mean_section(const Analysis& analysis) {
  const LayerRanking& ranking = analysis.ranking;
  SvgLineChart chart;
  chart.title = "Mean similarity of each layer to all layers";
  chart.x_label = "layer";
  chart.y_label = "mean similarity";
  chart.integer_x = true;
  for (const SimilarityVariant variant : kSimilarityVariants) {
    if (!analysis[variant]) continue;
    SvgSeries series;
    series.name = text_of(variant).label;
    series.markers = variant == SimilarityVariant::flat;
    series.dashed = variant != SimilarityVariant::flat;
    series.y = rank_layers(analysis[variant]->mean).layer_mean;
    for (size_t i = 0; i < series.y.size(); ++i) series.x.push_back(double(i));
    chart.series.push_back(std::move(series));
  }
  chart.x_bands = bands_of(ranking.unchanged, "unchanged");
  // The two neighbours in the ranking on either side of the gap.
  const bool marked = !ranking.unchanged.empty();
  const double gap = marked ? ranking.unchanged_gap : ranking.largest_gap;
  for (size_t i = 1; i < ranking.ranking.size(); ++i) {
    const double upper = ranking.layer_mean[size_t(ranking.ranking[i - 1])];
    const double lower = ranking.layer_mean[size_t(ranking.ranking[i])];
    const bool here = marked ? ranking.ranking.size() - i == ranking.unchanged.size() : upper - lower == gap;
    if (!here || gap <= 0.0) continue;
    chart.y_marks = {{lower, upper, fmt::format("{} {:.3f}", gap == ranking.largest_gap ? "largest gap" : "gap", gap)}};
    break;
  }

  std::string html = "<h2>Mean similarity of each layer</h2>\n";
  html +=
      "<p class=\"soft\">Average of a layer's row of the matrix, itself included. The gap is that of the flat "
      "similarity.</p>\n";
  html += "<div class=\"wide\">" + svg_line_chart(chart) + "</div>\n";
  html += fmt::format("<p>Ranking, most alike first: {}.</p>\n", fmt::join(ranking.ranking, ", "));
  html += fmt::format("<p>Largest gap between neighbours of the ranking: {:.4f}. ", ranking.largest_gap);
  if (ranking.unchanged.empty())
    html += "No gap separates only first or last layers from the others, so no layer is left unchanged.";
  else if (ranking.unchanged_gap < ranking.largest_gap)
    html += fmt::format(
        "The layers below it are not only first or last ones. The largest gap for which they are, {:.4f}, leaves "
        "unchanged: {}.",
        ranking.unchanged_gap, layer_ranges(ranking.unchanged));
  else
    html += fmt::format("The layers below it are left unchanged: {}.", layer_ranges(ranking.unchanged));
  return html + "</p>\n";
}

std::string plan_section(const Analysis& analysis) {
  const auto& without_sink = analysis[SimilarityVariant::no_first_column];
  const auto number = [](const std::optional<double>& value) {
    return value ? fmt::format("{:.3f}", *value) : std::string("-");
  };
  HtmlTable table;
  table.headers = {"plan", "followers", "of layers", "parameters removed", "of model", "mean", "minimum"};
  if (without_sink) table.headers.insert(table.headers.end(), {"mean, no first column", "minimum"});
  table.numeric.assign(table.headers.size(), true);
  table.numeric[0] = false;
  for (const Plan& plan : analysis.plans) {
    std::string of_model = "-";
    if (plan.parameters_removed && analysis.parameters.value_or(0) > 0)
      of_model = fmt::format("{:.2f} %", 100.0 * double(*plan.parameters_removed) / double(*analysis.parameters));
    table.rows.push_back({plan.name, std::to_string(plan.followers),
                          fmt::format("{:.0f} %", 100.0 * double(plan.followers) / double(analysis.layers())),
                          plan.parameters_removed ? grouped(*plan.parameters_removed) : "-", of_model,
                          number(plan.mean_similarity), number(plan.min_similarity)});
    if (without_sink) {
      const Plan other = evaluate_plan(plan.name, plan.leader_map, without_sink->mean, std::nullopt);
      table.rows.back().push_back(number(other.mean_similarity));
      table.rows.back().push_back(number(other.min_similarity));
    }
  }
  std::string html =
      "<h2>Proposed plans</h2>\n<p class=\"soft\">Mean and minimum are similarities of followers to the leader whose "
      "attention they would use, measured in the unshared model. They say which plan disturbs the model least, not how "
      "good the trained student will be. paper_a: the highest ranked layers follow the nearest layer before them that "
      "does not follow. optimal: contiguous blocks led by their first layer with the highest summed similarity for the "
      "same number of followers; unchanged layers take no part.</p>\n";
  html += html_table(table);
  html +=
      "<p class=\"soft\">Strips: a coloured block is a leader (full colour, bold) with its followers (\u2190 leader); plain "
      "layers compute their own attention.</p>\n";
  for (const Plan& plan : analysis.plans) {
    std::vector<std::string> hover;
    for (int64_t i = 0; i < plan.leader_map.layers(); ++i) {
      const int64_t leader = plan.leader_map.leader(i);
      if (leader != i)
        hover.push_back(fmt::format("layer {} uses the attention of layer {}: similarity {}", i, leader,
                                    with_error(*analysis[SimilarityVariant::flat], leader, i)));
      else if (const auto followers = plan.leader_map.followers_of(i); !followers.empty())
        hover.push_back(fmt::format("layer {} computes its own attention and lends it to {}", i, layer_ranges(followers)));
      else
        hover.push_back(fmt::format("layer {} computes its own attention", i));
    }
    html += fmt::format("<h3>{}</h3>\n<p>{} of {} layers follow: {}.</p>\n<div class=\"wide\">{}</div>\n",
                        escape_html(plan.name), plan.followers, plan.leader_map.layers(), plan.leader_map.describe(),
                        svg_plan_strip(plan.leader_map.leaders(), hover));
    html += fmt::format("<p class=\"soft\"><code>leader_map: {}</code></p>\n", plan.leader_map.to_string());
    html += html_warnings(plan.warnings);
  }
  return html;
}

// The checked radio button alone decides which heat map is visible, so the page works without scripts.
std::string variant_style() {
  std::string style =
      ".maps input { margin: 0 6px 0 0; } .maps label { margin-right: 20px; white-space: nowrap; } .map { display: none; "
      "margin-top: 8px; }\n"
      ".readout { min-height: 1.5em; font-variant-numeric: tabular-nums; } .cell:hover { stroke: var(--mark); stroke-width: 2; "
      "}\n";
  for (const SimilarityVariant variant : kSimilarityVariants)
    style += fmt::format("#choose-{0}:checked ~ #map-{0} {{ display: block; }}\n", variant_name(variant));
  return style;
}

}  // namespace

std::string similarity_svg(const Analysis& analysis) {
  // The title is one line. Of a long path, the end is the most informative part.
  constexpr size_t kLongest = 60;
  std::string name = analysis.model;
  if (name.size() > kLongest) {
    size_t from = name.size() - kLongest;
    while (from < name.size() && (uint8_t(name[from]) & 0xC0) == 0x80) ++from;  // not inside a UTF-8 character
    name = "\u2026" + name.substr(from);
  }
  return svg_heat_map(heat_map_of(*analysis[SimilarityVariant::flat], "Similarity of attention between layers: " + name),
                      SvgUse::standalone);
}

std::string report_html(const Analysis& analysis) {
  std::string body = fmt::format("<p>{} layers; {}.</p>\n", analysis.layers(), escape_html(evidence(analysis)));
  HtmlTable facts{{"", ""}, {{"model", analysis.model}}, {}};
  if (!analysis.data.empty()) facts.rows.push_back({"data", analysis.data});
  if (analysis.parameters) facts.rows.push_back({"parameters", grouped(*analysis.parameters)});
  if (analysis.parameters_per_follower)
    facts.rows.push_back({"parameters per follower", grouped(*analysis.parameters_per_follower)});
  std::string command;
  for (const std::string& argument : analysis.command) command.append(command.empty() ? "" : " ").append(argument);
  if (!command.empty()) facts.rows.push_back({"made by", command});
  body += html_table(facts);
  body += heat_map_section(analysis) + layer_mean_section(analysis) + plan_section(analysis);
  return html_page("Which layers attend alike: " + analysis.model, body, variant_style());
}

}  // namespace echo
