// @ts-check
import { markdownTable } from '../../dist/bench/document.js';
import { formatCount } from '../../dist/cli/units.js';
import { TABLES } from './figures.mjs';

/**
 * @typedef {{ median: number, min: number, max: number }} Spread
 *
 * @typedef {object} Standing What was measured of one system.
 * @property {string} name
 * @property {string} title
 * @property {boolean} syncs
 * @property {Record<string, Spread>} figures By name; what could not be measured is not there.
 */

const RIGHT = /** @type {const} */ ({ align: 'right' });

/** Whose rows are held against all others. */
export const OURS = 'millrace';

/**
 * The tables: systems that sync before they confirm, then the others. The best of the first in bold, the best of all with an
 * asterisk.
 *
 * @param {readonly Standing[]} standings
 */
export function renderTables(standings) {
  const ordered = [...standings.filter(({ syncs }) => syncs), ...standings.filter(({ syncs }) => !syncs)];
  return TABLES.filter(({ figures }) => figures.some(({ name }) => ordered.some((one) => name in one.figures))).map(
    ({ title, figures }) => {
      const columns = [{ title: '' }, ...figures.map(({ title, unit }) => ({ ...RIGHT, title: `${title}, ${unit}` }))];
      const rows = ordered.map((standing) => [
        `${standing.title}${standing.syncs ? '' : ' ¹'}`,
        ...figures.map((figure) => cell(figure, standing, ordered)),
      ]);
      return `### ${title}\n\n${markdownTable(columns, rows)}`;
    },
  );
}

/**
 * Where somebody is better than Millrace with its default durability: one line a figure.
 *
 * @param {readonly Standing[]} standings
 * @returns {string[]}
 */
export function renderLosses(standings) {
  const ours = standings.find(({ name }) => name === OURS);
  if (ours === undefined) return [];
  const others = standings.filter(({ name }) => !name.startsWith(OURS));
  const compared = TABLES.flatMap(({ figures }) => figures).filter((figure) => figure.compared !== false);
  return compared.flatMap((figure) => {
    const own = ours.figures[figure.name];
    if (own === undefined) return [];
    const better = others
      .filter((one) => one.figures[figure.name] !== undefined)
      .filter((one) => isBetter(figure, one.figures[figure.name].median, own.median))
      .sort((a, b) => (isBetter(figure, a.figures[figure.name].median, b.figures[figure.name].median) ? -1 : 1))
      .map((one) => `${one.title}${one.syncs ? '' : ' ¹'} ${number(figure, one.figures[figure.name].median)}`);
    if (better.length === 0) return [];
    return [`- ${fullTitle(figure)}: Millrace ${number(figure, own.median)} ${figure.unit}; ${better.join(', ')}`];
  });
}

/** @typedef {import('./figures.mjs').Figure} Figure */

/** In a table `p99` stands beside its p50. @param {Figure} figure */
function fullTitle({ name, title }) {
  const before = TABLES.flatMap(({ figures }) => figures).find((one) => one.name === name.replace(/-p99$/, '-p50'));
  return title === 'p99' && before !== undefined ? before.title.replace('p50', 'p99') : title;
}

/**
 * @param {Figure} figure
 * @param {Standing} standing
 * @param {readonly Standing[]} all
 */
function cell(figure, standing, all) {
  const spread = standing.figures[figure.name];
  if (spread === undefined) return '–';
  const { median, min, max } = spread;
  const range = min === max ? '' : ` (${number(figure, min)}–${number(figure, max)})`;
  if (figure.compared === false) return `${number(figure, median)}${range}`;
  const best = (/** @type {readonly Standing[]} */ among) =>
    among.every(
      (one) => one.figures[figure.name] === undefined || !isBetter(figure, one.figures[figure.name].median, median),
    );
  const text =
    standing.syncs && best(all.filter(({ syncs }) => syncs)) ? `**${number(figure, median)}**` : number(figure, median);
  return `${text}${best(all) ? ' \\*' : ''}${range}`;
}

/** @param {Figure} figure @param {number} one @param {number} other */
function isBetter({ better }, one, other) {
  return better === 'higher' ? one > other : one < other;
}

/** @param {Figure} figure @param {number} value */
function number({ unit }, value) {
  const isWhole = unit === 'tasks/s' || unit === 'bytes' || unit === 'µs';
  return isWhole || value >= 100 ? formatCount(value) : value.toFixed(2);
}
