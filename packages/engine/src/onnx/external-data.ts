/** @file Puts a model's weights into a file of their own: one file of a model cannot hold 2 GB. */
import { clearField, create } from "@bufbuild/protobuf";
import {
  type ModelProto,
  StringStringEntryProtoSchema,
  TensorProto_DataLocation,
  TensorProtoSchema,
} from "onnx-buf";
import { graphsOf } from "./walk.js";

/** Smaller ones stay in the model: shapes and scalars are read while the graph is put together. */
const LEAST = 1024;
/** Runtimes map the file into memory, page by page. */
const PAGE = 4096;

/**
 * Moves weights out of the model, which is changed in place.
 * @param file name of the weights' file, which has to lie beside the model's
 * @returns the file's content, in order
 */
export function externalise(model: ModelProto, file: string): Uint8Array[] {
  const chunks: Uint8Array[] = [];
  let offset = 0;
  for (const { initializer } of graphsOf(model))
    for (const weight of initializer) {
      const bytes = weight.rawData;
      if (bytes.length < LEAST) continue;
      const padding = (PAGE - (offset % PAGE)) % PAGE;
      if (padding > 0) chunks.push(new Uint8Array(padding));
      offset += padding;
      chunks.push(bytes);
      weight.externalData = Object.entries({ location: file, offset, length: bytes.length }).map(
        ([key, value]) => create(StringStringEntryProtoSchema, { key, value: String(value) }),
      );
      weight.dataLocation = TensorProto_DataLocation.EXTERNAL;
      offset += bytes.length;
      clearField(weight, TensorProtoSchema.field.rawData);
    }
  return chunks;
}

/** Bytes of all weights. */
export function weightBytes(model: ModelProto): number {
  let bytes = 0;
  for (const { initializer } of graphsOf(model))
    for (const { rawData } of initializer) bytes += rawData.length;
  return bytes;
}
