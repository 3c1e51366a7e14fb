import { describe, expect, it } from 'vitest';
import { MECHANISMS } from '../attention/all.ts';
import { parseOptions } from '../attention/options.ts';
import { formatAttention, formatStep, parseAttention } from './notation.ts';
import { parseRecipe } from './recipe.ts';

const step = (rest: Record<string, unknown>) => ({ step: 'attention', ...rest });

describe('parseAttention', () => {
  it('reads kinds, options of each type, and layers', () => {
    expect(parseAttention('local(left=64, right=32)@every3+1,longformer,dense@[0,2]')).toEqual([
      step({ kind: 'local', left: 64, right: 32, layers: { every: 3, offset: 1, except: false } }),
      step({ kind: 'longformer' }),
      step({ kind: 'dense', layers: [0, 2] }),
    ]);
    expect(parseAttention('block-sparse(density=.5)@except3')).toEqual([
      step({ kind: 'block-sparse', density: 0.5, layers: { every: 3, offset: 0, except: true } }),
    ]);
    const mask = { op: 'le', args: [{ op: 'query' }, { op: 'key' }] };
    const [masked] = MECHANISMS.find(({ kind }) => kind === 'masked')!.examples;
    expect(parseAttention(`masked(mask=${JSON.stringify(masked.mask)})`)).toEqual([
      step({ kind: 'masked', ...masked }),
    ]);
    expect(() => parseAttention(`masked(mask=${JSON.stringify(mask)})`)).toThrow(
      expect.objectContaining({ code: 'MASK_INVALID' }),
    );
  });

  it('takes the benchmark’s options where a kind alone leaves some open', () => {
    const { bench } = MECHANISMS.find(({ kind }) => kind === 'local')!;
    expect(parseAttention('local')).toEqual([step({ kind: 'local', ...bench.local })]);
  });

  it('names every mechanism but dense as all, each a sound step', () => {
    const steps = parseAttention('all@every2');
    const without = MECHANISMS.filter(({ bench }) => Object.keys(bench).length === 0).map(({ kind }) => kind);
    const kinds = MECHANISMS.map(({ kind }) => kind).filter((kind) => kind !== 'dense');
    expect(steps.map(({ kind }) => kind)).toEqual(
      expect.arrayContaining(kinds.filter((kind) => !without.includes(kind))),
    );
    expect(parseRecipe(steps)).toHaveLength(steps.length);
  });

  it.each([
    ['loca', 'ATTENTION_UNKNOWN', 'longformer'],
    ['local(left=1)', 'ATTENTION_OPTION', 'right'],
    ['local(left=1,right=x)', 'ATTENTION_OPTION', 'whole number'],
    ['local(left=1,right=2,up=3)', 'ATTENTION_OPTION', 'one of left, right'],
    ['masked', 'ATTENTION_OPTION', 'mask'],
    ['local(left=1', 'ATTENTION_NOTATION', 'one ) for each ('],
    ['local)left', 'ATTENTION_NOTATION', 'one ) for each ('],
    ['dense@every0', 'ATTENTION_NOTATION', 'every3'],
    ['dense@2', 'ATTENTION_NOTATION', '[0,2]'],
    ['local(64)', 'ATTENTION_NOTATION', 'name=value'],
    ['all(left=2)', 'ATTENTION_NOTATION', 'all@layers'],
    ['', 'ATTENTION_NOTATION', 'kind'],
    ['dense,,local', 'ATTENTION_NOTATION', 'kind'],
  ])('refuses %j', (text, code, words) => {
    expect(() => parseAttention(text)).toThrow(
      expect.objectContaining({ code, message: expect.stringContaining(words) }),
    );
  });
});

describe('formatStep', () => {
  it('is read back as the same step, for every example of every mechanism', () => {
    for (const { kind, options, examples } of MECHANISMS)
      for (const example of examples) {
        const layers = { every: 2, offset: 1, except: false };
        const given = step({ kind, ...example, layers });
        const text = formatStep(given);
        if (text.includes('…')) continue;
        const [{ step: _, kind: read, layers: where, ...rest }] = parseAttention(text);
        expect([read, where]).toEqual([kind, layers]);
        expect(parseOptions(kind, options, rest)).toEqual(parseOptions(kind, options, example));
      }
  });

  it('leaves defaults out', () => {
    const { options } = MECHANISMS.find(({ kind }) => kind === 'longformer')!;
    const { window: _, ...filled } = parseOptions('longformer', options, {});
    expect(formatAttention({ kind: 'longformer', ...filled, window: 7 })).toBe('longformer(window=7)');
    expect(formatStep({ step: 'attention', kind: 'dense', layers: 'all' })).toBe('dense');
  });
});
