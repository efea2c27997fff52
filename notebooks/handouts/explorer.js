// The explorer's numbers, from the logits in the page. Each panel's function takes the values of its controls (and the
// figure as Python drew it) and returns what changes: `traces`, in the same order; `said`, a line above the figure;
// `yTitle`. The formulas are those of decomposition.py and losses/longtailed.py; tests/browser compares the two.
"use strict";

const DATA = JSON.parse(document.getElementById("data").textContent);
const N_CLASSES = DATA.classNames.length;
const HEAD_MEDIUM_TAIL = DATA.partitions[2];

// ---- logits

function half(bits) {
  const fraction = bits & 1023, exponent = (bits >> 10) & 31, sign = bits >> 15 ? -1 : 1;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}

const unpacked = {};

// One Float64Array an image, of network and images such as "teacher, balanced".
function logits(name) {
  if (!unpacked[name]) {
    const bytes = Uint8Array.from(atob(DATA.logits[name]), (c) => c.charCodeAt(0));
    const values = Float64Array.from(new Uint16Array(bytes.buffer), half);
    const rows = values.length / N_CLASSES;
    unpacked[name] = Array.from({ length: rows }, (_, i) => values.subarray(i * N_CLASSES, (i + 1) * N_CLASSES));
  }
  return unpacked[name];
}

function logSoftmax(row, temperature) {
  const scaled = row.map((z) => z / temperature);
  const peak = Math.max(...scaled);
  const total = peak + Math.log(scaled.reduce((sum, z) => sum + Math.exp(z - peak), 0));
  return scaled.map((z) => z - total);
}

// ---- LTKD

// Eq. 3: the probability of each group.
function groupMass(logProbabilities, groups) {
  const mass = new Array(groups.names.length).fill(0);
  logProbabilities.forEach((value, c) => { mass[groups.index[c]] += Math.exp(value); });
  return mass;
}

// Eq. 9 to 11: a batch of group masses, each group scaled to the same sum, then every row normalised to one.
function rebalanced(batch) {
  const sums = columnSums(batch);
  return batch.map((row) => {
    const share = row.map((mass, g) => mass / sums[g]);
    const total = share.reduce((a, b) => a + b, 0);
    return share.map((value) => value / total);
  });
}

// Eq. 8: [cross-group term, weighted within-group term of each group].
function klParts(teacherRow, studentRow, temperature, groups) {
  const teacher = logSoftmax(teacherRow, temperature), student = logSoftmax(studentRow, temperature);
  const p = groupMass(teacher, groups), q = groupMass(student, groups);
  const perGroup = p.map((mass, g) => mass * Math.log(mass / q[g]));
  const within = perGroup.map((value) => -value);
  teacher.forEach((value, c) => { within[groups.index[c]] += Math.exp(value) * (value - student[c]); });
  return [perGroup.reduce((a, b) => a + b, 0), ...within];
}

function columnSums(rows) {
  return rows.reduce((sums, row) => sums.map((sum, i) => sum + row[i]), new Array(rows[0].length).fill(0));
}

function columnMeans(rows) {
  return columnSums(rows).map((sum) => sum / rows.length);
}

const argmax = (row) => row.indexOf(Math.max(...row));
const ofGroup = (label) => HEAD_MEDIUM_TAIL.index[label];
const HIDDEN = { x: [], y: [], visible: false };

// ---- panels

const PANELS = {
  counts({ profile, factor, groups }) {
    const counts = DATA.profiles[profile][factor], partition = DATA.profilePartitions[groups - 1];
    const traces = DATA.profilePartitions.map((_, g) => {
      if (g >= groups) return HIDDEN;
      const x = [...counts.keys()].filter((c) => partition.index[c] === g);
      return { x, y: x.map((c) => counts[c]), name: partition.names[g], customdata: x, visible: true };
    });
    const few = counts.filter((n) => n < 20).length;
    return { traces, said: `${sum(counts)} images; the last class has ${counts.at(-1)}; ${few} classes are few-shot.` };
  },

  mass({ network, images, temperature, batch, groups }) {
    const partition = DATA.partitions[groups - 1];
    const masses = logits(`${network}, ${images}`).map((row) => groupMass(logSoftmax(row, temperature), partition));
    const batches = [];
    for (let start = 0; start + batch <= masses.length; start += batch) batches.push(masses.slice(start, start + batch));
    const sums = [batches.map(columnSums), batches.map((rows) => columnSums(rebalanced(rows)))];
    const x = batches.map((_, i) => i + 1);
    const traces = [", teacher's own", ", rebalanced"].flatMap((label, k) => DATA.partitions.map((_, g) => (
      g >= groups ? HIDDEN : { x, y: sums[k].map((row) => row[g]), name: partition.names[g] + label, visible: true }
    )));
    const [before, after] = sums.map(columnMeans);
    const said = partition.names.map((name, g) => `${name} ${before[g].toFixed(1)} → ${after[g].toFixed(1)}`);
    return { traces, said: `Mean of a batch of ${batch}: ${said.join(", ")}.` };
  },

  decomposition({ student, temperature, image }) {
    const teacher = logits("teacher, balanced"), other = logits(`${student}, balanced`);
    const labels = DATA.labels["teacher, balanced"];
    const rank = DATA.classCounts.map((n, c) => [-n, c]).sort((a, b) => a[0] - b[0] || a[1] - b[1]).map(([, c]) => c);
    const ordered = rank.flatMap((c) => [...labels.keys()].filter((i) => labels[i] === c));
    const chosen = ordered[image - 1], label = labels[chosen];
    const parts = teacher.map((row, i) => klParts(row, other[i], temperature, HEAD_MEDIUM_TAIL));
    const means = HEAD_MEDIUM_TAIL.names.map((_, g) => columnMeans(parts.filter((_, i) => ofGroup(labels[i]) === g)));
    const bars = [parts[chosen], ...means];
    const traces = parts[chosen].map((_, part) => ({ y: bars.map((bar) => bar[part]) }));
    const says = (row) => DATA.classNames[argmax(row)];
    return {
      traces,
      said: `An image of ${DATA.classNames[label]}, a ${HEAD_MEDIUM_TAIL.names[ofGroup(label)]} class with ` +
        `${DATA.classCounts[label]} training images. The teacher says ${says(teacher[chosen])}, the student ` +
        `${says(other[chosen])}. KL = ${sum(parts[chosen]).toPrecision(3)} nats.`,
    };
  },

  prior({ network, tau }) {
    const labels = DATA.labels[`${network}, balanced`], total = sum(DATA.classCounts);
    const logPrior = DATA.classCounts.map((n) => Math.log(n / total));
    const right = logits(`${network}, balanced`).map((row, i) => (
      argmax(row.map((z, c) => z - tau * logPrior[c])) === labels[i]
    ));
    const accuracy = (those) => (100 * those.filter(Boolean).length) / those.length;
    const traces = HEAD_MEDIUM_TAIL.names.map((_, g) => (
      { y: [accuracy(right.filter((_, i) => ofGroup(labels[i]) === g))] }
    ));
    return { traces, said: `${accuracy(right).toFixed(1)} % of ${right.length} balanced test images are right.` };
  },

  training({ measure }, drawn) {
    const key = Object.keys(DATA.measures).find((name) => DATA.measures[name] === measure);
    const nothing = { x: [], y: [] };
    const panels = { x: 0, x2: 1, x3: 2 };
    const traces = drawn.data.map(({ meta, xaxis }) => (
      DATA.histories[meta][`${key}_${HEAD_MEDIUM_TAIL.names[panels[xaxis]]}`] || nothing
    ));
    return { traces, said: key === "within_kl" ? "Runs without a teacher have no such term." : "", yTitle: measure };
  },
};

const sum = (values) => values.reduce((a, b) => a + b, 0);

// ---- controls

for (const panel of document.querySelectorAll(".panel")) {
  const name = panel.dataset.panel, choices = DATA.controls[name];
  const figure = panel.querySelector(".figure"), drawn = structuredClone({ data: figure.data, layout: figure.layout });
  const redraw = () => {
    const values = {};
    for (const control of panel.querySelectorAll("[data-name]")) {
      const key = control.dataset.name;
      values[key] = choices[key][control.value];
      const shown = control.closest("label").querySelector("output");
      if (shown) shown.value = values[key];
    }
    const { traces, said, yTitle } = PANELS[name](values, drawn);
    const layout = structuredClone(drawn.layout);
    if (yTitle) layout.yaxis.title.text = yTitle;
    Plotly.react(figure, drawn.data.map((trace, i) => ({ ...trace, ...traces[i] })), layout, CONFIG);
    panel.querySelector(".said").textContent = said;
  };
  panel.addEventListener("input", redraw);
  redraw();
}
