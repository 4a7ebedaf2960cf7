// The one plot of the report: `rounds` is set by the page. Intervals are floating bars, as Chart.js has no error bars.
const seen = rounds.filter((r) => r.value !== null);
const lowest = Math.min(...seen.map((r) => r.low ?? r.value), 1);
const dataset = (label, values, more) => ({ type: "line", label, data: values, ...more });
const chart = new Chart(document.getElementById("plot"), {
  data: {
    labels: rounds.map((r) => r.round),
    datasets: [
      dataset("this round", rounds.map((r) => r.value), { showLine: false, pointRadius: 5, pointStyle: "circle" }),
      dataset("best so far", rounds.map((r) => r.best),
        { stepped: true, pointRadius: 0, borderDash: [6, 4], borderWidth: 2, pointStyle: "line" }),
      dataset("failed", rounds.map((r) => (r.failed ? lowest : null)),
        { showLine: false, pointStyle: "crossRot", pointRadius: 7, borderWidth: 2 }),
      dataset("interval", rounds.map((r) => (r.low === null ? null : [r.low, r.high])),
        { type: "bar", barThickness: 3, pointStyle: "rect" }),
    ],
  },
  options: {
    animation: false,
    maintainAspectRatio: false,
    plugins: {
      legend: { labels: { usePointStyle: true, boxHeight: 7,
                          filter: (item) => item.text !== "failed" || rounds.some((r) => r.failed) } },
      tooltip: { callbacks: { title: (items) => `Round ${items[0].label}: ${rounds[items[0].dataIndex].label}` } },
    },
    scales: {
      x: { title: { display: true, text: "round" }, grid: { display: false } },
      y: { title: { display: true, text: "speed-up over the defaults" }, beginAtZero: false,
           suggestedMax: 1.05, suggestedMin: 0.95 },
    },
  },
});

// A canvas does not follow the style sheet: it is coloured anew when the page turns dark or goes to a printer.
function colourChart(onPaper) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name, onWhite) => (onPaper ? onWhite : style.getPropertyValue(name).trim());
  const soft = colour("--soft", "#444"), line = colour("--line", "#ccc");
  [colour("--accent", "#0b6e6e"), soft, colour("--bad", "#b3261e"), soft].forEach((c, i) => {
    chart.data.datasets[i].borderColor = chart.data.datasets[i].backgroundColor = c;
  });
  chart.options.plugins.legend.labels.color = soft;
  for (const axis of Object.values(chart.options.scales)) {
    axis.title.color = soft;
    axis.ticks = { ...axis.ticks, color: soft };
    axis.grid = { ...axis.grid, color: line, borderColor: line };
  }
  chart.update();
}
colourChart(false);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => colourChart(false));

// Paper cannot be clicked: what is folded away is opened for it, and closed again.
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open])")];
  opened.forEach((d) => (d.open = true));
  colourChart(true);
});
addEventListener("afterprint", () => {
  opened.forEach((d) => (d.open = false));
  colourChart(false);
});
