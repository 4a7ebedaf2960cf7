// The one plot of the report: `rounds` is set by the page. Intervals are floating bars, as Chart.js has no error bars.
const style = getComputedStyle(document.documentElement);
const colour = (name) => style.getPropertyValue(name).trim();
Chart.defaults.color = colour("--soft");
Chart.defaults.borderColor = colour("--line");
const worst = Math.min(...rounds.filter((r) => r.value !== null).map((r) => r.low ?? r.value), 1);
new Chart(document.getElementById("plot"), {
  data: {
    labels: rounds.map((r) => r.round),
    datasets: [
      { type: "line", label: "this round", showLine: false, pointRadius: 5, data: rounds.map((r) => r.value),
        backgroundColor: colour("--accent"), borderColor: colour("--accent") },
      { type: "line", label: "best so far", stepped: true, pointRadius: 0, borderDash: [6, 4], data: rounds.map((r) => r.best),
        borderColor: colour("--soft"), backgroundColor: colour("--soft") },
      { type: "line", label: "failed", showLine: false, pointStyle: "crossRot", pointRadius: 7, borderWidth: 2,
        data: rounds.map((r) => (r.failed ? worst : null)), borderColor: "#c0392b", backgroundColor: "#c0392b" },
      { type: "bar", label: "interval", barThickness: 3, data: rounds.map((r) => (r.low === null ? null : [r.low, r.high])),
        backgroundColor: colour("--soft") },
    ],
  },
  options: {
    animation: false,
    maintainAspectRatio: false,
    plugins: {
      legend: { labels: { filter: (item) => item.text !== "failed" || rounds.some((r) => r.failed) } },
      tooltip: { callbacks: { title: (items) => `Round ${items[0].label}: ${rounds[items[0].dataIndex].label}` } },
    },
    scales: {
      x: { title: { display: true, text: "round" } },
      y: { title: { display: true, text: "speed-up over the defaults" }, beginAtZero: false,
           suggestedMax: 1.05, suggestedMin: 0.95 },
    },
  },
});
