/** @file A method's sign: a colour, a marker and a dash, which together stay apart without colour too. */

/** Colours are `--c0` to `--c7`. Eight colours and seven markers meet again only after 56 methods. */
export const COLOURS = 8;
const MARKERS = 7;

/** Path data of a method's marker around the origin. */
export function markerPath(style: number, size: number): string {
  const polygon = (points: readonly (readonly [number, number])[]) =>
    `M${points.map(([x, y]) => `${round(x * size)} ${round(y * size)}`).join("L")}Z`;
  switch (style % MARKERS) {
    case 0: {
      const r = round(size);
      return `M${-r} 0A${r} ${r} 0 1 0 ${r} 0A${r} ${r} 0 1 0 ${-r} 0Z`;
    }
    case 1:
      return polygon([
        [-0.9, -0.9],
        [0.9, -0.9],
        [0.9, 0.9],
        [-0.9, 0.9],
      ]);
    case 2:
      return polygon([
        [0, -1.25],
        [1.15, 0.85],
        [-1.15, 0.85],
      ]);
    case 3:
      return polygon([
        [0, -1.35],
        [1.35, 0],
        [0, 1.35],
        [-1.35, 0],
      ]);
    case 4:
      return polygon([
        [0, 1.25],
        [1.15, -0.85],
        [-1.15, -0.85],
      ]);
    case 5:
      // A plus.
      return polygon([
        [-0.42, -1.2],
        [0.42, -1.2],
        [0.42, -0.42],
        [1.2, -0.42],
        [1.2, 0.42],
        [0.42, 0.42],
        [0.42, 1.2],
        [-0.42, 1.2],
        [-0.42, 0.42],
        [-1.2, 0.42],
        [-1.2, -0.42],
        [-0.42, -0.42],
      ]);
    default:
      // A star.
      return polygon(
        Array.from({ length: 10 }, (_, index) => {
          const radius = index % 2 === 0 ? 1.45 : 0.62;
          const angle = (index * Math.PI) / 5;
          return [radius * Math.sin(angle), -radius * Math.cos(angle)] as const;
        }),
      );
  }
}

/** Later rounds of the same colours are dashed. */
export function dashOf(style: number): string {
  return ["", "5 3", "2 2.5"][Math.floor(style / COLOURS) % 3]!;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
