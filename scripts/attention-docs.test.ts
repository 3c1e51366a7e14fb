import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { MECHANISMS } from '../src/attention/all.ts';
import { parseAttention, parseRecipe } from '../src/compress/index.ts';
import { ATTENTION_DOCS, attentionDocs, recipeLine } from './attention-docs.ts';

const page = attentionDocs();

it('is what stands in docs/attention.md; else run npm run docs', () => {
  expect(readFileSync(ATTENTION_DOCS, 'utf8')).toBe(page);
});

it('has a section, a row and a sound step of every mechanism', () => {
  for (const mechanism of MECHANISMS) {
    expect(page).toContain(`\n#### ${mechanism.kind}\n`);
    expect(page).toContain(`](#${mechanism.kind}) |`);
    expect(page).toContain(mechanism.paper.url);
    expect(parseRecipe([JSON.parse(recipeLine(mechanism))])).toHaveLength(1);
  }
});

it('leaves no mark of its template, and no link to nowhere', () => {
  expect(page).not.toMatch(/\{\{|undefined/);
  const places = new Set(
    [...page.matchAll(/^#+ (.+)$/gm)].map(([, title]) => title.toLowerCase().replaceAll(' ', '-')),
  );
  for (const [, target] of page.matchAll(/\]\(#([^)]+)\)/g)) expect(places).toContain(target);
});

it('shows recipes and notations that are understood', () => {
  for (const [, json] of page.matchAll(/```json\n([\s\S]*?)```/g)) {
    const value = JSON.parse(json);
    expect(parseRecipe(Array.isArray(value) ? value : [value]).length).toBeGreaterThan(0);
  }
  for (const [, text] of page.matchAll(/--attention "([^"]+)"/g))
    expect(parseAttention(text).length).toBeGreaterThan(0);
});
