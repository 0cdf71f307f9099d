/** A sample's name with its labels, as it was written. */
export type Series = string;

/** What a scrape said, checked line by line. */
export class Exposition {
  readonly values = new Map<Series, number>();
  readonly types = new Map<string, string>();

  /** Throws for what is no text format of Prometheus: https://prometheus.io/docs/instrumenting/exposition_formats/ */
  constructor(text: string) {
    if (!text.endsWith('\n')) throw new Error('the last line has no end');
    for (const line of text.slice(0, -1).split('\n')) this.#read(line);
    for (const [name, type] of this.types) if (type === 'histogram') this.#checkHistogram(name);
  }

  /** Throws when there is none. */
  value(series: Series): number {
    const value = this.values.get(series);
    if (value === undefined) throw new Error(`no ${series} among ${[...this.values.keys()].join(' ')}`);
    return value;
  }

  /** The labels of all series of that name. */
  labelsOf(name: string): string[] {
    return [...this.values.keys()].filter((series) => series.startsWith(`${name}{`)).map((s) => s.slice(name.length));
  }

  get names(): Set<string> {
    return new Set([...this.values.keys()].map((series) => series.replace(/\{.*/s, '')));
  }

  #read(line: string): void {
    if (line === '' || /^# HELP [a-zA-Z_:][a-zA-Z0-9_:]* \S/.test(line)) return;
    const type = /^# TYPE ([a-zA-Z_:][a-zA-Z0-9_:]*) (counter|gauge|histogram)$/.exec(line);
    if (type !== null) {
      const [, name = '', kind = ''] = type;
      if (this.types.has(name)) throw new Error(`${name} comes twice`);
      if ((kind === 'counter') !== name.endsWith('_total')) throw new Error(`${name} is no name of a ${kind}`);
      this.types.set(name, kind);
      return;
    }
    const label = String.raw`[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\\\|\\"|\\n)*"`;
    const sample = new RegExp(String.raw`^(([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{${label}(?:,${label})*\})?) (\S+)$`).exec(
      line,
    );
    if (sample === null) throw new Error(`no line of the format: ${line}`);
    const [, series = '', name = '', value = ''] = sample;
    if (this.values.has(series)) throw new Error(`${series} comes twice`);
    if (!Number.isFinite(Number(value))) throw new Error(`no number: ${line}`);
    const family = name.replace(/_(bucket|sum|count)$/, '');
    if (!this.types.has(name) && this.types.get(family) !== 'histogram') throw new Error(`${name} has no TYPE`);
    this.values.set(series, Number(value));
  }

  #checkHistogram(name: string): void {
    const buckets = this.labelsOf(`${name}_bucket`).map((labels) => this.value(`${name}_bucket${labels}`));
    const count = this.value(`${name}_count`);
    if (this.value(`${name}_bucket{le="+Inf"}`) !== count) throw new Error(`${name}: +Inf is not its count`);
    if (buckets.some((value, index) => value < (buckets[index - 1] ?? 0))) throw new Error(`${name} is not cumulative`);
    this.value(`${name}_sum`);
  }
}

export async function scrape(url: string): Promise<Exposition> {
  const response = await fetch(`${url}/metrics`);
  const text = await response.text();
  if (response.status !== 200) throw new Error(`${response.status}: ${text}`);
  return new Exposition(text);
}
