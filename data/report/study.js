// Draws the plots that the page describes in `plots`; haqa/report/plots.h says what a description holds.
const style = getComputedStyle(document.documentElement);
const css = (name) => style.getPropertyValue(name).trim();
const channels = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
const rgba = (rgb, alpha) => `rgba(${rgb.map(Math.round).join(",")},${alpha})`;
const mixed = (t) => {
  const late = channels(css("--late"));
  return rgba(channels(css("--early")).map((c, i) => c + t * (late[i] - c)), 0.9);
};
const looks = {
  points: { showLine: false, pointRadius: 4.5, pointStyle: "circle" },
  cross: { showLine: false, pointRadius: 5, pointStyle: "crossRot", borderWidth: 2 },
  line: { pointRadius: 2, borderWidth: 2, pointStyle: "line" },
  front: { pointRadius: 5, borderWidth: 2, pointStyle: "circle" },
  step: { stepped: true, pointRadius: 0, borderWidth: 2, borderDash: [6, 4], pointStyle: "line" },
  edge: { pointRadius: 0, pointHitRadius: 0, borderWidth: 0, fill: "-1" },
  bar: { type: "bar", maxBarThickness: 22, pointStyle: "rect" },
};

function dataset(series) {
  const look = { clip: 8, ...looks[series.look] };  // points on the edge are drawn whole
  if (series.look === "edge" && !series.filled) look.fill = false;
  if (series.dash) look.borderDash = series.dash;
  return { label: series.label, data: series.data, series, ...look };
}

const short = (v) => (v !== 0 && (Math.abs(v) < 1e-3 || Math.abs(v) >= 1e6) ? v.toExponential(0) : String(+v.toPrecision(4)));

// Of a logarithmic scale: powers of ten, and where those are few, twice and five times them.
const kept = (v, decades) => (decades > 2 ? [1] : [1, 2, 5]).includes(Math.round(v / 10 ** Math.floor(Math.log10(v) + 1e-9) * 1e6) / 1e6);

function axis(description) {
  const { categories, range, log } = description;
  const limits = categories ? [-0.5, categories.length - 0.5] : range ?? [];
  return {
    type: log ? "logarithmic" : "linear",
    title: { display: !!description.title, text: description.title },
    min: limits[0],
    max: limits[1],
    reverse: !!description.reversed,
    afterBuildTicks: (scale) => {
      // A scale of numbers would put its ticks between the categories; one of logarithms crowds them.
      if (categories) scale.ticks = categories.map((_, value) => ({ value }));
      else if (log) scale.ticks = scale.ticks.filter(({ value }) => kept(value, Math.log10(scale.max / scale.min)));
    },
    ticks: {
      callback: (v) => (categories ? categories[v] : short(v)),
      autoSkip: !categories && !log, maxRotation: categories ? 40 : 0, includeBounds: !!log, ...(description.whole ? { precision: 0 } : {}),
    },
    grid: { display: !categories },
  };
}

function draw(plot) {
  const shown = (item, chart) => chart.datasets[item.datasetIndex].series.named;
  return new Chart(document.getElementById(plot.id), {
    type: "line",
    data: { datasets: plot.series.map(dataset) },
    options: {
      animation: false,
      maintainAspectRatio: false,
      indexAxis: plot.sideways ? "y" : "x",
      plugins: {
        legend: {
          display: plot.series.filter((s) => s.named).length > 1,
          labels: { usePointStyle: true, boxHeight: 7, filter: shown },
          // A method's band goes with its line.
          onClick: (_, item, legend) => {
            const sets = legend.chart.data.datasets, show = !legend.chart.isDatasetVisible(item.datasetIndex);
            sets.forEach((d, i) => { if (d.label === sets[item.datasetIndex].label) legend.chart.setDatasetVisibility(i, show); });
            legend.chart.update();
          },
        },
        tooltip: {
          callbacks: { title: () => "", label: (item) => item.raw.label ?? `${item.dataset.label}: ${item.formattedValue}` },
        },
      },
      scales: { x: axis(plot.x), y: axis(plot.y) },
    },
  });
}

// A canvas does not follow the style sheet: it is coloured anew when the page turns dark or goes to a printer.
function colour(chart) {
  const soft = css("--soft"), line = css("--line");
  for (const d of chart.data.datasets) {
    const own = css(d.series.colour);
    d.borderColor = own;
    d.backgroundColor = d.series.look === "edge" ? rgba(channels(own), 0.12) : own;
    if (d.series.data.some((p) => p.shade !== undefined)) {
      d.borderColor = d.backgroundColor = d.pointBackgroundColor = d.pointBorderColor = d.series.data.map((p) => mixed(p.shade ?? 1));
    }
    if (d.series.faint) d.backgroundColor = d.series.data.map((p) => (p.faint ? rgba(channels(own), 0.35) : own));
  }
  chart.options.plugins.legend.labels.color = soft;
  for (const scale of Object.values(chart.options.scales)) {
    scale.title.color = soft;
    scale.ticks.color = soft;
    scale.grid.color = line;
    scale.grid.borderColor = line;
  }
  chart.update();
}

const charts = plots.map(draw);
const recolour = () => charts.forEach(colour);
recolour();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);

// Paper cannot be clicked: what is folded away is opened for it, and closed again.
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open])")];
  opened.forEach((d) => (d.open = true));
  document.documentElement.classList.add("paper");
  recolour();
});
addEventListener("afterprint", () => {
  opened.forEach((d) => (d.open = false));
  document.documentElement.classList.remove("paper");
  recolour();
});
