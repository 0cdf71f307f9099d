import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import axe from 'axe-core';
import { type Browser, type BrowserContext, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { expect } from 'vitest';

export const DESK = { width: 1280, height: 800 };
export const TABLET = { width: 1024, height: 768 };
export const PHONE = { width: 390, height: 844 };

const SCREENSHOTS = join(import.meta.dirname, '../../build/screenshots');
/** Slower than this, a machine that is busy is no excuse. */
const SEEN_MS_MAX = 15_000;

/** Somebody with a browser window of their own on the dashboard, and a list of what went wrong in it. */
export class Visitor {
  readonly page: Page;
  readonly #context: BrowserContext;
  readonly #url: string;
  readonly #troubles: string[] = [];

  /** `url` may have a path, as behind a proxy. */
  static async open(browser: Browser, url: string, options: BrowserContextOptions = {}): Promise<Visitor> {
    const context = await browser.newContext({ viewport: DESK, reducedMotion: 'reduce', ...options });
    context.setDefaultTimeout(SEEN_MS_MAX);
    return new Visitor(context, await context.newPage(), url);
  }

  private constructor(context: BrowserContext, page: Page, url: string) {
    this.#context = context;
    this.page = page;
    this.#url = url;
    const origin = new URL(url).origin;
    // A refusal by the content security policy is an error on the console too.
    page.on('console', (message) => {
      if (message.type() === 'error' || message.type() === 'warning') this.#troubles.push(`console: ${message.text()}`);
    });
    page.on('pageerror', (error) => this.#troubles.push(`error: ${error.stack ?? error.message}`));
    page.on('dialog', (dialog) => {
      this.#troubles.push(`dialog: ${dialog.message()}`);
      void dialog.dismiss();
    });
    page.on('request', (request) => {
      if (new URL(request.url()).origin !== origin && !request.url().startsWith('blob:')) {
        this.#troubles.push(`asked another origin: ${request.url()}`);
      }
    });
  }

  /** Opens a page of the dashboard, `tasks?state=dead`, and waits for its heading. */
  async visit(path: string, heading: string | RegExp): Promise<void> {
    await this.page.goto(`${this.#url}/#/${path}`);
    await this.page.getByRole('heading', { level: 1, name: heading }).waitFor();
  }

  button(name: string | RegExp) {
    return this.page.getByRole('button', { name, exact: typeof name === 'string' });
  }

  link(name: string | RegExp) {
    return this.page.getByRole('link', { name, exact: typeof name === 'string' });
  }

  /** Waits until the text is seen. */
  async sees(text: string | RegExp): Promise<void> {
    await this.page.getByText(text).first().waitFor();
  }

  async screenshot(name: string): Promise<void> {
    await mkdir(SCREENSHOTS, { recursive: true });
    await this.page.screenshot({ path: join(SCREENSHOTS, `${name}.png`), fullPage: true });
  }

  /** What axe finds, a line each. */
  async barriers(): Promise<string[]> {
    await this.page.evaluate(`if (globalThis.axe === undefined) { ${axe.source} }`);
    const results = await this.page.evaluate<axe.AxeResults>('axe.run(document)');
    return results.violations.flatMap(({ id, help, nodes }) =>
      nodes.map(({ html, any }) => `${id}: ${help}: ${html} ${any[0]?.message ?? ''}`),
    );
  }

  /** By how many pixels the page is wider than its window. */
  overflowPx(): Promise<number> {
    return this.page.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth');
  }

  /** What went wrong since the last call. */
  takeTroubles(): string[] {
    return this.#troubles.splice(0);
  }

  /** Leaves, if nothing went wrong. */
  async leave(): Promise<void> {
    await this.#context.close();
    expect(this.takeTroubles()).toEqual([]);
  }
}

export function connectBrowser(url: string): Promise<Browser> {
  return chromium.connect(url);
}
