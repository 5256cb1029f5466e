/** @file Small helpers over parameter records. */
import type { HostParams, HostTensor } from "@cee/engine";

function mapParams(params: HostParams, change: (tensor: HostTensor) => HostTensor): HostParams {
  return Object.fromEntries(Object.entries(params).map(([path, tensor]) => [path, change(tensor)]));
}

export function copyParams(params: HostParams): HostParams {
  return mapParams(params, (tensor) => ({ ...tensor, data: tensor.data.slice() }));
}

export function zerosLike(params: HostParams): HostParams {
  return mapParams(params, (tensor) => ({ ...tensor, data: new Float32Array(tensor.data.length) }));
}

export function selectParams(params: HostParams, wanted: (path: string) => boolean): HostParams {
  return Object.fromEntries(Object.entries(params).filter(([path]) => wanted(path)));
}

/** Parameters of the strategy by the names that the strategy gave them. */
export function strategyOf(params: HostParams): HostParams {
  const prefix = "strategy.";
  return Object.fromEntries(
    Object.entries(params)
      .filter(([path]) => path.startsWith(prefix))
      .map(([path, tensor]) => [path.slice(prefix.length), tensor]),
  );
}
