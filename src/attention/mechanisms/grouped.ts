import { meanHeads } from '../initialise/mean-heads.ts';
import { mechanism } from '../mechanism.ts';
import { attendPairs, pairOptions, pairParts } from '../pairs.ts';

/**
 * Grouped-query attention: heads share `groups` heads of keys and values, so that their matrices shrink to
 * groups / H of their bytes and multiply-adds. Query head h reads key head ⌊h · groups / H⌋; 1 group is multi-query
 * attention (Shazeer 2019). Keys and values start as the means of the heads that they stand for (section 2.1); as
 * many groups as heads is the dense layer itself.
 */
export default mechanism({
  kind: 'grouped',
  summary: 'groups of heads share keys and values',
  family: 'softmax over pairs',
  paper: {
    authors: 'Ainslie, Lee-Thorp, de Jong, Zemlyanskiy, Lebrón, Sanghai',
    title: 'GQA: Training Generalized Multi-Query Transformer Models from Multi-Head Checkpoints',
    year: 2023,
    url: 'https://arxiv.org/abs/2305.13245',
  },
  options: {
    groups: {
      type: 'integer',
      least: 1,
      most: 4096,
      what: 'heads of keys and values, a divisor of the heads of queries; 1 is multi-query',
    },
    ...pairOptions,
  },
  needs: { training: 'recommended', calibration: false, boundedLength: false },
  growth: { time: 'n²', memory: 'n' },
  exact: false,
  ...pairParts,
  refuse(layer, options) {
    if (layer.heads % options.groups !== 0)
      return `its ${layer.heads} heads do not fall into ${options.groups} equal groups. Choose a divisor of ${layer.heads}.`;
    return pairParts.refuse(layer, options);
  },
  lower: (context, options) => attendPairs(context, null, options, options.groups),
  async initialise(context, options) {
    const made = new Map(await pairParts.initialise(context, options));
    for (const part of ['key', 'value'])
      for (const name of [`${part}.weight`, `${part}.bias`])
        made.set(name, meanHeads(await context.weight(name), context.layer, options.groups, name));
    return made;
  },
  examples: [{ groups: 1 }, { groups: 2 }],
  bench: { grouped: { groups: 4 }, 'grouped-1': { groups: 1 } },
});
