/**
 * @file Where a pass's hidden states lie: two arrays in turn, handed on from pass to pass. New ones for every pass would have to
 * be cleared, mapped and collected, which a short pass feels.
 *
 * B = live rows, S = length, H = hidden size.
 */
import type { HostTensor } from "@cee/engine";

/** A layer writes one array while it reads the other. */
export interface HiddenPlaces {
  readonly bytes: number;
  /** A tensor `[B, S, H]` in the array of that turn, whose numbers are whatever was there. */
  at(turn: number, rows: number, length: number): HostTensor;
}

export interface PlacePool {
  borrow(): HiddenPlaces;
  /** Not while anything still writes into them. */
  giveBack(places: HiddenPlaces): void;
}

/** Larger arrays are made anew: beside computing what is in them, that takes no time. */
const KEPT_BYTES = 2 ** 24;

/** Keeps the arrays of one pass: passes that run side by side have their own. */
export function placePool(hidden: number): PlacePool {
  let spare: HiddenPlaces | undefined;
  return {
    borrow() {
      const places = spare ?? hiddenPlaces(hidden);
      spare = undefined;
      return places;
    },
    giveBack(places) {
      if (places.bytes <= KEPT_BYTES) spare = places;
    },
  };
}

function hiddenPlaces(hidden: number): HiddenPlaces {
  const arrays: Float32Array[] = [];
  const tensors: HostTensor[] = [];
  return {
    get bytes() {
      return arrays.reduce((sum, array) => sum + (array?.byteLength ?? 0), 0);
    },
    at(turn, rows, length) {
      const known = tensors[turn];
      // The same tensor again: the runtime's wrapper of it is kept, too.
      if (known?.shape[0] === rows && known.shape[1] === length) return known;
      const size = rows * length * hidden;
      let array = arrays[turn];
      if (!array || array.length < size) array = new Float32Array(size);
      arrays[turn] = array;
      const tensor: HostTensor = {
        dtype: "float32",
        shape: [rows, length, hidden],
        data: array.subarray(0, size),
      };
      tensors[turn] = tensor;
      return tensor;
    },
  };
}
